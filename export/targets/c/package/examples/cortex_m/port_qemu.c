/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* Start of a Cortex-M4 program on QEMU's board mps2-an386, and text by semihosting (Arm IHI 0100).
 */
#include "port.h"

#include <stdint.h>
#include <string.h>

extern uint32_t stack_top, data_start, data_end, data_image, bss_start, bss_end;
int main(void);
void reset(void);
void fault(void);

static int semihost(int operation, const void *argument) {
  register int r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

void say(const char *text) { (void)semihost(0x04, text); }

static void leave(uint32_t code) {
  uint32_t block[2] = {0x20026, code}; /* ADP_Stopped_ApplicationExit */
  (void)semihost(0x20, block);
  for (;;) {
  }
}

void fault(void) {
  say("fault\n");
  leave(99);
}

void reset(void) {
  /* CPACR: compilers may copy through registers of the FPU */
  *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20;
  __asm__ volatile("dsb\n isb" ::: "memory");
  memcpy(&data_start, &data_image, (uint32_t)((char *)&data_end - (char *)&data_start));
  memset(&bss_start, 0, (uint32_t)((char *)&bss_end - (char *)&bss_start));
  leave((uint32_t)main());
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_top,
    (const void *)reset,
    (const void *)fault,
    (const void *)fault,
    (const void *)fault,
    (const void *)fault,
    (const void *)fault,
    (const void *)fault,
    0,
    0,
    0,
    (const void *)fault,
    (const void *)fault,
    0,
    (const void *)fault,
    (const void *)fault};
