/* Semihosting: files and text of the emulator's host (Arm IHI 0100; BKPT 0xAB with the operation in
 * r0). And what else startup.c knows: the flash. */
#ifndef SEMIHOST_H
#define SEMIHOST_H
#include <stdint.h>
/* mode: 0 "r", 1 "rb", 5 "wb"; -1 where it cannot be opened */
int sh_open(const char *name, int mode);
int sh_read(int handle, void *buffer, uint32_t bytes);        /* bytes read */
int sh_write(int handle, const void *buffer, uint32_t bytes); /* bytes written */
void sh_close(int handle);
void sh_puts(const char *text);
void sh_exit(int code);
/* whether the CRC-32 of all that was linked into flash is the one put in afterwards */
int flash_intact(uint32_t *crc);
#endif
