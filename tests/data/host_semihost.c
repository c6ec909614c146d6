/* Semihosting for a program on this machine: `app` with files of the working directory. */
#include "semihost.h"

#include <stdio.h>
#include <stdlib.h>

int app(void);
static FILE *opened[8];

int sh_open(const char *name, int mode) {
  int handle = 1;
  while (opened[handle]) handle++;
  opened[handle] = fopen(name, mode >= 4 ? "wb" : "rb");
  return opened[handle] ? handle : -1;
}
int sh_read(int handle, void *buffer, uint32_t bytes) { return (int)fread(buffer, 1, bytes, opened[handle]); }
int sh_write(int handle, const void *buffer, uint32_t bytes) {
  return (int)fwrite(buffer, 1, bytes, opened[handle]);
}
void sh_close(int handle) {
  fclose(opened[handle]);
  opened[handle] = 0;
}
void sh_puts(const char *text) { fputs(text, stderr); }
void sh_exit(int code) { exit(code); }
int main(void) { return app(); }
