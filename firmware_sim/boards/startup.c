/* Vectors, reset and semihosting of a bare Cortex-M; the program is `int app(void)`, its result the
 * exit code.
 *
 * The free part of the stack region is painted before `app` runs, so that the deepest use can be
 * read afterwards. */
#include "semihost.h"
#include "xmae_kernels.h"

#include <string.h>

/* of the vectors, reserved in Armv7-M and Armv8-M: compile.py puts the flash's CRC-32 there */
#define CRC_SLOT 8
extern const uint32_t flash_start[];
extern const uint8_t flash_end[];
extern uint32_t stack_bottom, stack_top, data_start, data_end, data_image, bss_start, bss_end;
int app(void);
void reset(void);
#define PAINT 0xa5a5a5a5u
#define REGISTER(address) (*(volatile uint32_t *)(address))

static int semihost(int operation, const void *argument) {
  register int r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

int sh_open(const char *name, int mode) {
  uint32_t block[3] = {(uint32_t)name, (uint32_t)mode, strlen(name)};
  return semihost(0x01, block);
}

int sh_read(int handle, void *buffer, uint32_t bytes) {
  uint32_t block[3] = {(uint32_t)handle, (uint32_t)buffer, bytes};
  return (int)bytes - semihost(0x06, block);
}

int sh_write(int handle, const void *buffer, uint32_t bytes) {
  uint32_t block[3] = {(uint32_t)handle, (uint32_t)buffer, bytes};
  return (int)bytes - semihost(0x05, block);
}

void sh_close(int handle) {
  uint32_t block[1] = {(uint32_t)handle};
  semihost(0x02, block);
}

void sh_puts(const char *text) { semihost(0x04, text); }

void sh_exit(int code) {
  uint32_t block[2] = {0x20026, (uint32_t)code}; /* ADP_Stopped_ApplicationExit */
  semihost(0x20, block);
  for (;;) {
  }
}

void fault(void);
void fault(void) {
  sh_puts("fault\n");
  sh_exit(99);
}

/* Deepest use of the stack so far, in bytes. */
uint32_t stack_used(void);
uint32_t stack_used(void) {
  const uint32_t *word = &stack_bottom;
  while (word < &stack_top && *word == PAINT) word++;
  return (uint32_t)((const char *)&stack_top - (const char *)word);
}

int flash_intact(uint32_t *crc) {
  const uint32_t *rest = flash_start + CRC_SLOT + 1;
  *crc = xmae_crc32(0, flash_start, 4 * CRC_SLOT);
  *crc = xmae_crc32(*crc, rest, (uint32_t)(flash_end - (const uint8_t *)rest));
  return *crc == flash_start[CRC_SLOT];
}

static void start(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  REGISTER(0xe000ed88) |= 0xfu << 20; /* CPACR: floating point and vector unit on */
  __asm__ volatile("dsb\n isb" ::: "memory");
#endif
#ifdef __ARM_FEATURE_MVE
  REGISTER(0xe000ed14) |= 1u << 19; /* CCR.LOB: low-overhead loops */
#endif
  memcpy(&data_start, &data_image, (uint32_t)((char *)&data_end - (char *)&data_start));
  memset(&bss_start, 0, (uint32_t)((char *)&bss_end - (char *)&bss_start));
  uint32_t *here = __builtin_frame_address(0);
  for (uint32_t *word = &stack_bottom; word < here - 16; word++) *word = PAINT;
  int code = app();
  char text[24] = "stack_used=";
  uint32_t used = stack_used(), digits = 1;
  for (uint32_t rest = used; rest >= 10; rest /= 10) digits++;
  for (uint32_t i = digits; i--; used /= 10) text[11 + i] = (char)('0' + used % 10);
  text[11 + digits] = '\n';
  text[12 + digits] = 0;
  sh_puts(text);
  sh_exit(code);
}

void reset(void) { start(); }

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
