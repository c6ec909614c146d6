/* On Arm Linux (Cortex-A) a runtime computes the network, in a program of its own: here are only
 * its place, and marks around the rest of the work on a window for boards/count_user.c to count
 * between. */
#include "board.h"
#include "student_int8.h"
#include <string.h>

long syscall(long number, ...);

static void mark(long number) { syscall(5050, 0x5050L, number, 0L, 0L, 0L, 0L); }

void phase_front_end(void) { mark(1); }
void phase_trace(void) { mark(2); }

void xmae_model(const int8_t *input, int8_t *output) {
  (void)input;
  mark(2);
  memset(output, 0, XMAE_OUTPUT_SIZE);
  mark(1);
}
