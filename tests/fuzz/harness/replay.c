/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: the xMAE authors */
/* Gives a harness each file that is named on the command line: for compilers without libFuzzer. */
#include "fuzz.h"

#include <string.h>

static void replay(const char *path) {
  FILE *file = fopen(path, "rb");
  REQUIRE(file && !fseek(file, 0, SEEK_END));
  long bytes = ftell(file);
  REQUIRE(bytes >= 0 && !fseek(file, 0, SEEK_SET));
  uint8_t *data = exactly((size_t)bytes);
  REQUIRE(fread(data, 1, (size_t)bytes, file) == (size_t)bytes);
  fclose(file);
  (void)LLVMFuzzerTestOneInput(data, (size_t)bytes);
  free(data);
}

int main(int n, char **paths) {
  for (int i = 1; i < n; i++) replay(paths[i]);
  printf("%d\n", n - 1);
  return 0;
}
