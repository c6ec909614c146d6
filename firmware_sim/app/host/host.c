/* Semihosting on the developer's machine: the firmware as a program, for sanitizers and fuzzing. */
#include "semihost.h"
#include <stdio.h>

static FILE *files[2];

int app(void);

int sh_open(const char *name, int mode) {
  const int handle = mode == 1 ? 0 : 1;
  files[handle] = fopen(name, handle ? "wb" : "rb");
  return files[handle] ? handle : -1;
}

int sh_read(int handle, void *bytes, uint32_t n) { return (int)fread(bytes, 1, n, files[handle]); }

int sh_write(int handle, const void *bytes, uint32_t n) {
  return (int)fwrite(bytes, 1, n, files[handle]);
}

/* A program of an operating system lies in no flash. */
int flash_intact(uint32_t *crc) {
  *crc = 0;
  return 1;
}

int main(void) {
  const int code = app();
  for (int i = 0; i < 2; i++)
    if (files[i]) fclose(files[i]);
  return code;
}
