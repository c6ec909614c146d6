"""A hostile guest: firmware that asks its host for commands and files gets neither."""

import json
import shutil
import subprocess

import pytest

from xmae.errors import UserError
from xmae.firmware_sim import play_cortex_a
from xmae.firmware_sim.build.arm_root import is_set_up, root_path
from xmae.firmware_sim.build.compile import build, compile_firmware, zig
from xmae.firmware_sim.emulators.channel import MAX_BYTES, MAX_FILES, Files
from xmae.firmware_sim.emulators.confine import KINDS, confinement
from xmae.firmware_sim.emulators.qemu import have_qemu, run_qemu
from xmae.firmware_sim.emulators.unicorn import run_unicorn

pytest.importorskip("ziglang")
pytest.importorskip("unicorn")
needs_qemu = pytest.mark.skipif(not have_qemu(), reason="qemu-system-arm is not installed")
needs_bubblewrap = pytest.mark.skipif(
    confinement().tool != "bubblewrap", reason="bubblewrap is not installed, or may not work here"
)

# semihosting operations of Arm IHI 0100: what a guest that was taken over would ask for
HOSTILE = r"""
#include "semihost.h"
#include <string.h>

static int call(int operation, const void *argument) {
  register int r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

int app(void) {
  char text[16];
  const char *const run = "touch @FOLDER@/pwned", *const secret = "@FOLDER@/secret";
  uint32_t system[2] = {(uint32_t)run, strlen(run)};
  uint32_t remove[2] = {(uint32_t)secret, strlen(secret)};
  uint32_t rename[4] = {(uint32_t)secret, strlen(secret), (uint32_t)run, strlen(run)};
  int got = 0;
  if (@SYSTEM@) got |= call(0x12, system) == 0 ? 1 : 0;
  if (@SYSTEM@) got |= call(0x0e, remove) == 0 ? 2 : 0;
  if (@SYSTEM@) got |= call(0x0f, rename) == 0 ? 4 : 0;
  int handle = sh_open(secret, 1);
  if (handle >= 0 && sh_read(handle, text, 4) == 4) got |= 8;
  handle = sh_open("@FOLDER@/new", 5);
  if (handle >= 0 && sh_write(handle, run, 4) == 4) got |= 16;
  handle = sh_open("../out", 5);
  if (handle >= 0) got |= 32;
  handle = sh_open("in.bin", 1);
  if (sh_read(handle, text, 4) != 4 || memcmp(text, "1234", 4)) got |= 64;
  handle = sh_open("out.bin", 5);
  if (sh_write(handle, text, 4) != 4) got |= 64;
  sh_puts("still here\n");
  return got;
}
"""


@pytest.fixture
def hostile(tmp_path):
    """Return a function that compiles the guest, with or without the calls that Unicorn ends a run
    for.
    """

    def build(system=True):
        (tmp_path / "secret").write_text("key")
        text = HOSTILE.replace("@FOLDER@", str(tmp_path)).replace("@SYSTEM@", str(int(system)))
        (tmp_path / "hostile.c").write_text(text)
        return compile_firmware(
            [tmp_path / "hostile.c"], "m4", tmp_path / "app.elf", compiler="zig"
        )

    return build


def check(run, folder):
    assert run.exit_code == 0, f"the guest got {run.exit_code:#x} of what it asked for"
    assert run.files == {"out.bin": b"1234"} and "still here" in run.console
    assert (folder / "secret").read_text() == "key"
    assert not (folder / "pwned").exists() and not (folder / "new").exists()


@needs_qemu
def test_a_guest_of_qemu_reaches_no_command_and_no_file(hostile, tmp_path):
    check(run_qemu(hostile(), {"in.bin": b"12345678"}), tmp_path)


@needs_qemu
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.tool)
def test_nor_where_qemu_is_confined_less(hostile, tmp_path, monkeypatch, kind):
    command = kind.command(["true"], tmp_path)
    there = shutil.which(command[0])
    if not there or subprocess.run(command, capture_output=True).returncode:
        pytest.skip(f"{kind.tool} does not work here")
    monkeypatch.setattr("xmae.firmware_sim.emulators.qemu.confinement", lambda: kind)
    check(run_qemu(hostile(), {"in.bin": b"12345678"}), tmp_path)


def test_a_guest_of_unicorn_reaches_no_file(hostile, tmp_path):
    check(run_unicorn(hostile(system=False), {"in.bin": b"12345678"}), tmp_path)
    with pytest.raises(UserError, match="semihosting operation 0x12"):
        run_unicorn(hostile(), {"in.bin": b"12345678"})


@needs_qemu
def test_a_guest_that_does_not_end_is_ended(tmp_path):
    (tmp_path / "loop.c").write_text("int app(void) { for (;;) { } }\n")
    made = compile_firmware([tmp_path / "loop.c"], "m4", tmp_path / "app.elf", compiler="zig")
    with pytest.raises(UserError, match="did not finish within 2 s"):
        run_qemu(made, {}, timeout_s=2)


@needs_bubblewrap
def test_a_confined_program_sees_its_folder_and_what_it_is_shown_alone(tmp_path):
    ours, shown, other = tmp_path / "run", tmp_path / "shown", tmp_path / "other"
    for folder in (ours, shown, other):
        folder.mkdir()
        (folder / "file").write_text("text")

    def ran(script):
        words = confinement().command(["sh", "-c", script], ours, [shown])
        return subprocess.run(words, capture_output=True, text=True)

    assert ran(f"cat {ours}/file {shown}/file").stdout == "texttext"
    assert ran(f"echo new > {ours}/file").returncode == 0 and (ours / "file").read_text() == "new\n"
    for forbidden in (
        f"cat {other}/file",
        f"echo > {shown}/file",
        f"echo > {other}/file",
        "cat /etc/passwd",
        f"ls {tmp_path.home()}/",
        "echo > /usr/bin/new",
    ):
        assert ran(forbidden).returncode != 0, forbidden
    assert ran("cat /proc/net/dev").stdout.count(":") <= 1  # lo, and no route to anything
    assert ran("id -u").stdout == "65534\n" and "PATH" in ran("env").stdout
    assert len(ran("env").stdout.splitlines()) <= 4  # PATH, PWD, ...: no setting of ours


def test_what_is_not_confined_is_said(monkeypatch, tmp_path):
    confinement.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 1))
    assert confinement().tool == "none" and "not confined" in confinement().words
    monkeypatch.undo()
    confinement.cache_clear()
    assert (confinement().tool == "bubblewrap") <= (shutil.which("bwrap") is not None)


def test_files_of_a_run_are_few_and_bounded():
    files = Files({"in.bin": b"abc"})
    assert files.open("in.bin", 0x601) >= 0 and files.open("/etc/passwd", 0) < 0
    handles = [files.open("out.bin", 0x601) for _ in range(2 * MAX_FILES)]
    assert sum(handle >= 0 for handle in handles) < MAX_FILES
    files.n_written = MAX_BYTES - 1
    assert files.write(handles[0], b"ab") < 0 and files.write(99, b"a") < 0


# a Linux program without a C library: openat, unlinkat, socket, connect, write, exit of aarch64
USER = r"""
static long call(long number, long a, const void *b, long c, long d) {
  register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = (long)b;
  register long x2 __asm__("x2") = c, x3 __asm__("x3") = d;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
}

static int connects(void) { /* IPv4, UDP and TCP, to a public address */
  unsigned char to[16] = {2, 0, 0, 53, 8, 8, 8, 8};
  int got = 0;
  for (long kind = 1; kind <= 2; ++kind) {
    long socket = call(198, 2, (void *)kind, 0, 0);
    got |= socket >= 0 && call(203, socket, to, 16, 0) == 0;
  }
  return got;
}

static int opens(const char *path, int flags) { return call(56, -100, path, flags, 0600) >= 0; }

void _start(void) {
  char got = '0';
  if (opens("@FOLDER@/secret", 0)) got |= 1;
  if (opens("@FOLDER@/new", 0101)) got |= 2;
  if (opens("/etc/passwd", 0)) got |= 4;
  if (opens("@MODEL@", 1) || call(35, -100, "@FOLDER@/secret", 0, 0) == 0) got |= 8;
  if (connects()) got |= 16;
  if (!opens("@MODEL@", 0)) got |= 64; /* this one is shown */
  call(64, call(56, -100, "out.bin", 0101, 0600), &got, 1, 0);
  call(93, 0, 0, 0, 0);
}
"""


@needs_bubblewrap
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="qemu-user is not installed")
def test_a_program_of_a_cortex_a_sees_its_run_and_its_model_alone(tmp_path, monkeypatch):
    for name in ("root", "run", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "secret").write_text("key")
    (tmp_path / "model").write_text("model")
    source = USER.replace("@FOLDER@", str(tmp_path / "other"))
    (tmp_path / "guest.c").write_text(source.replace("@MODEL@", str(tmp_path / "model")))
    guest = tmp_path / "root" / "guest"
    plain = ["-nostdlib", "-ffreestanding", "-static", "-fno-sanitize=all"]
    source = tmp_path / "guest.c"
    build([*zig("cc", "-target", "aarch64-linux-musl"), *plain, source, "-o", guest])
    monkeypatch.setattr(play_cortex_a, "root_path", lambda arch: tmp_path / "root")
    model = tmp_path / "model"
    play_cortex_a.run_user("a55", [guest, model], tmp_path / "run", 60, [model])
    assert (tmp_path / "run" / "out.bin").read_text() == "0"
    assert (tmp_path / "other" / "secret").read_text() == "key"
    assert not (tmp_path / "other" / "new").exists()


# in the Python of the small Arm systems, as the runtimes run there: what each attempt gave
HOSTILE_PYTHON = """
import json, os, socket, subprocess, sys
secret, model, out = sys.argv[1:]
got = {}

def attempt(name, work):
    try:
        got[name] = str(work())[:60]
    except Exception as error:
        got[name] = ""

attempt("secret", lambda: open(secret).read())
attempt("new", lambda: open(secret + ".new", "w").write("x"))
attempt("remove", lambda: os.remove(secret) or "removed")
attempt("model", lambda: open(model, "a").write("x"))
attempt("password", lambda: open("/etc/shadow").read())
attempt("home", lambda: os.listdir(os.path.expanduser("~root")))
attempt("processes", lambda: [p for p in os.listdir("/proc") if p.isdigit() and int(p) > 50])
attempt("udp", lambda: socket.socket(2, 2).connect(("8.8.8.8", 53)) or "connected")
attempt("tcp", lambda: socket.create_connection(("1.1.1.1", 443), 2))
attempt("look-up", lambda: socket.getaddrinfo("example.org", 80))
attempt("host command", lambda: subprocess.check_output(["/bin/sh", "-c", "touch " + secret + "2"]))
attempt("settings", lambda: os.environ.get("XMAE_TEST_SECRET", ""))
got["shown"] = open(model).read()
json.dump(got, open(out, "w"))
"""


@pytest.mark.extended
@needs_bubblewrap
@pytest.mark.parametrize("core", ["a55", "a7"])
def test_python_in_the_arm_systems_reaches_no_file_and_no_network(tmp_path, monkeypatch, core):
    root = play_cortex_a.CPUS[core].root
    if not is_set_up(root):
        pytest.skip("the Arm systems are not here; xmae simulate --setup makes them")
    for name in ("run", "other"):
        (tmp_path / name).mkdir()
    secret, model = tmp_path / "other" / "secret", tmp_path / "model"
    secret.write_text("key")
    model.write_text("model")
    (tmp_path / "run" / "hostile.py").write_text(HOSTILE_PYTHON)
    monkeypatch.setenv("XMAE_TEST_SECRET", "key")
    python = root_path(root) / "usr/bin/python3.11"
    words = [python, tmp_path / "run" / "hostile.py", secret, model, tmp_path / "run" / "got.json"]
    play_cortex_a.run_user(core, words, tmp_path / "run", 120, [model])
    got = json.loads((tmp_path / "run" / "got.json").read_text())
    assert got.pop("shown") == "model" and got.pop("processes") in ("", "[]")
    assert not any(got.values()), got
    assert secret.read_text() == "key" and model.read_text() == "model"
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["secret"]
