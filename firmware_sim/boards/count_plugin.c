/* QEMU TCG plugin: executions of each instruction address, by region of a program.
 *
 * Arguments: base=ADDR,size=BYTES of the code, out=FILE, mark=ADDR (repeated). A region begins
 * where a marked instruction is executed. FILE: a line "visit MARK COUNT" per visit in order, then
 * "count MARK ADDRESS COUNT" for all that was executed; MARK is 0xffffffff before the first marker.
 * QEMU's own header is not packaged everywhere, so the prototypes of plugin API 1 (QEMU 7.2
 * include/qemu/qemu-plugin.h) stand here. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t id_t_;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum op { INLINE_ADD_U64 };
enum flags { CB_NO_REGS };
void qemu_plugin_register_vcpu_tb_trans_cb(id_t_, void (*)(id_t_, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, enum op, void *,
                                                uint64_t);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *),
                                            enum flags, void *);
void qemu_plugin_register_atexit_cb(id_t_, void (*)(id_t_, void *), void *);
#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

#define MARKS 256
/* one slot per half-word; region 0: before any marker */
static uint64_t base, slots, *now, *before, *mix[MARKS + 1];
static uint64_t marks[MARKS + 1] = {0xffffffff}, nmarks, region;
static FILE *out;

static void close_visit(void) {
  uint64_t total = 0;
  for (uint64_t i = 0; i < slots; i++) {
    uint64_t delta = now[i] - before[i];
    mix[region][i] += delta, before[i] = now[i], total += delta;
  }
  fprintf(out, "visit %#" PRIx64 " %" PRIu64 "\n", marks[region], total);
}

static void at_marker(unsigned cpu, void *which) {
  (void)cpu;
  close_visit();
  region = (uint64_t)(uintptr_t)which;
}

static void translated(id_t_ id, struct qemu_plugin_tb *tb) {
  (void)id;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
    struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
    uint64_t at = qemu_plugin_insn_vaddr(insn);
    for (uint64_t m = 1; m <= nmarks; m++)
      if (marks[m] == at)
        qemu_plugin_register_vcpu_insn_exec_cb(insn, at_marker, CB_NO_REGS, (void *)(uintptr_t)m);
    if (at >= base && (at - base) / 2 < slots)
      qemu_plugin_register_vcpu_insn_exec_inline(insn, INLINE_ADD_U64, now + (at - base) / 2, 1);
  }
}

static void finished(id_t_ id, void *data) {
  (void)id, (void)data;
  close_visit();
  for (uint64_t m = 0; m <= nmarks; m++)
    for (uint64_t i = 0; i < slots; i++)
      if (mix[m][i])
        fprintf(out, "count %#" PRIx64 " %#" PRIx64 " %" PRIu64 "\n", marks[m], base + 2 * i,
                mix[m][i]);
  fclose(out);
}

EXPORT int qemu_plugin_install(id_t_ id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++) {
    char *value = strchr(argv[i], '=');
    if (!value++) continue;
    if (!strncmp(argv[i], "base=", 5)) base = strtoull(value, 0, 0);
    if (!strncmp(argv[i], "size=", 5)) slots = strtoull(value, 0, 0) / 2;
    if (!strncmp(argv[i], "mark=", 5) && nmarks < MARKS) marks[++nmarks] = strtoull(value, 0, 0);
    if (!strncmp(argv[i], "out=", 4)) out = fopen(value, "w");
  }
  now = calloc(slots, 8), before = calloc(slots, 8);
  for (uint64_t m = 0; m <= nmarks; m++) mix[m] = calloc(slots, 8);
  if (!out || !slots || !now || !before || !mix[nmarks]) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, finished, 0);
  return 0;
}
