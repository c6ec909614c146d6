/* QEMU plugin (user mode): how many instructions were executed at each mark, a line "MARK COUNT" in
 * the file out=...
 *
 * A mark is system call 5050 with 0x5050 and its number. Debian ships no qemu-plugin.h; the
 * declarations are those of QEMU 7.2's plugin API, version 1. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id,
                                                  void (*)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *,
                                                     uint64_t);
extern uint64_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
typedef void (*syscall_cb)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                           uint64_t, uint64_t, uint64_t, uint64_t);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, syscall_cb);

int qemu_plugin_version = 1;
static uint64_t executed;
static FILE *out;

static void translated(plugin_id id, struct qemu_plugin_tb *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(block, 0 /* add to a 64-bit counter */, &executed,
                                           qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t key, uint64_t mark,
                   uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  (void)id, (void)cpu, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (number != 5050 || key != 0x5050) return;
  fprintf(out, "%llu %llu\n", (unsigned long long)mark, (unsigned long long)executed);
  fflush(out);
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++)
    if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, called);
  return out ? 0 : 1;
}
