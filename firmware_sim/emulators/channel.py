"""Files of an emulated run, kept in memory: the only thing that firmware under QEMU can reach.

QEMU's own semihosting opens files of this machine and runs its commands (SYS_SYSTEM). Here it is
told to ask a debugger instead (``target=gdb``), and this is the debugger: the File-I/O part of the
GDB remote protocol (GDB manual, appendix E.13). Open, read, write and close are answered from
memory; everything else is refused.
"""

MAX_FILES = 16
MAX_BYTES = 2**28  # that a run may write, all files together
STEP = 1024  # bytes of memory in one packet; QEMU 7.2 takes 2,000
WRITE, CREATE, TRUNCATE = 0x1 | 0x2, 0x200, 0x400  # flags of the protocol
CONSOLE = (0, 1, 2)
EPERM, ENOENT, EBADF, EMFILE, ENOSPC = 1, 2, 9, 24, 28  # errors of the protocol


class Files:
    """Files in memory, by name, before and after a run.

    Parameters
    ----------
    files : dict of bytes
        Files that the firmware can open, by name.

    Attributes
    ----------
    console : str
        Text that the firmware wrote.
    refused : list of str
        Calls that were refused.
    """

    def __init__(self, files):
        self.content = {name: bytearray(data) for name, data in files.items()}
        self.opened, self.changed = {}, set()  # handle -> [name, position, writable]
        self.console, self.refused, self.n_written = "", [], 0

    def written(self):
        """Return the files that the firmware wrote: {name: bytes}."""
        return {name: bytes(self.content[name]) for name in sorted(self.changed)}

    def open(self, name, flags):
        """Return a handle, or an error below zero."""
        if len(self.opened) >= MAX_FILES:
            return -EMFILE
        writable = bool(flags & WRITE)
        if writable and "/" not in name and flags & CREATE:
            self.changed.add(name)
            if flags & TRUNCATE or name not in self.content:
                self.content[name] = bytearray()
        elif writable or name not in self.content:
            self.refused.append(f"open {name[:60]!r}")
            return -EPERM if writable else -ENOENT
        handle = len(CONSOLE) + len(self.opened)
        self.opened[handle] = [name, 0, writable]
        return handle

    def read(self, handle, size):
        """Return the next bytes of a file, or an error below zero."""
        if handle not in self.opened:
            return -EBADF
        place = self.opened[handle]
        data = bytes(self.content[place[0]][place[1] : place[1] + size])
        place[1] += len(data)
        return data

    def write(self, handle, data):
        """Append bytes to a file or the console; return their number, or an error below zero."""
        if handle in CONSOLE:
            self.console += data.decode("ascii", "replace")
            return len(data)
        if handle not in self.opened or not self.opened[handle][2]:
            return -EBADF
        if self.n_written + len(data) > MAX_BYTES:
            return -ENOSPC
        self.n_written += len(data)
        self.content[self.opened[handle][0]] += data
        return len(data)


class Debugger:
    """The debugger at the other end of QEMU's ``-gdb stdio``.

    Parameters
    ----------
    to_qemu, from_qemu : binary files
        Standard input, not buffered, and output of QEMU.
    files : Files
        Files that the firmware reads and writes.
    """

    def __init__(self, to_qemu, from_qemu, files):
        self.to_qemu, self.from_qemu, self.files = to_qemu, from_qemu, files

    def run(self):
        """Start the machine and serve its calls until it exits.

        Returns
        -------
        bool
            False if the core stopped without an exit.
        """
        self.send("c")
        while (packet := self.receive()) is not None:
            if packet.startswith("F"):
                self.send(self.answer(*packet[1:].split(",")))
            elif packet[:1] in "WX":
                return True
            elif packet[:1] in "ST":
                return False
        return True  # QEMU has ended

    def answer(self, call, *arguments):
        """Serve one call, and return the packet with its result."""
        if call == "open":
            where, size = (int(x, 16) for x in arguments[0].split("/"))
            name = self.memory(where, min(size, STEP)).rstrip(b"\0").decode("utf-8", "replace")
            result = self.files.open(name, int(arguments[1], 16))
        elif call == "close":
            result = 0
        elif call == "read":
            handle, where, size = (int(x, 16) for x in arguments)
            result = self.files.read(handle, size)
            if isinstance(result, bytes):
                self.put(where, result)
                result = len(result)
        elif call == "write":
            handle, where, size = (int(x, 16) for x in arguments)
            result = self.files.write(handle, self.memory(where, min(size, MAX_BYTES)))
        else:  # system, unlink, rename, stat, ...
            self.files.refused.append(call)
            result = -EPERM
        return f"F{result:x}" if result >= 0 else f"F-1,{-result:x}"

    def memory(self, where, size):
        """Read bytes of the machine's memory."""
        data = b""
        for at in range(0, size, STEP):
            self.send(f"m{where + at:x},{min(STEP, size - at):x}")
            reply = self.receive() or ""
            if reply.startswith("E") or not reply:
                break  # no memory there
            data += bytes.fromhex(reply)
        return data

    def put(self, where, data):
        """Write bytes into the machine's memory."""
        for at in range(0, len(data), STEP):
            part = data[at : at + STEP]
            self.send(f"M{where + at:x},{len(part):x}:{part.hex()}")
            self.receive()

    def send(self, text):
        """Send one packet, after the acknowledgement of the one before."""
        body = text.encode()
        self.to_qemu.write(b"+$%b#%02x" % (body, sum(body) % 256))

    def receive(self):
        """Receive the next packet; None if QEMU has ended."""
        while (byte := self.from_qemu.read(1)) != b"$":
            if not byte:
                return None
        body = bytearray()
        while (byte := self.from_qemu.read(1)) != b"#":
            if not byte or len(body) > 2**16:
                return None
            body += byte
        self.from_qemu.read(2)  # the sum; a pipe loses nothing
        return body.decode("ascii", "replace")
