"""C99 source of an int8 `.tflite`: weights as constants for flash, one function per layer, a
planned static arena.

The kernels that it calls are in the folder `kernels`, and are copied beside it on export.
"""

import shutil
import zlib
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from xmae.export.targets.c.cmsis_nn import for_cmsis_nn
from xmae.export.targets.c.layers import read_layers
from xmae.export.targets.c.literals import comment, identifier, integer, real
from xmae.files import atomic_file

LINE = 100  # columns
ALIGN = 8  # bytes: of every tensor in the arena
NAME = "student_int8"  # of the files in a bundle
STRUCTS = {  # of the others: the kernel's name and _t
    "xmae_depthwise": "xmae_conv_t", "xmae_cmsis_depthwise": "xmae_cmsis_conv_t",
    "xmae_average_pool": "xmae_pool_t",
}  # fmt: skip


def export_networks(folder, paths):
    """Turn int8 `.tflite` files into C, and copy the kernels that the C calls.

    Functions have the same names for each network: a program links one of them.

    Parameters
    ----------
    folder : Path
        Folder to write into; made if it is missing.
    paths : sequence of Path
        Networks without attention: the kernels have none. For each, `<stem>.c` and `.h` are
        written, and `<stem>_cmsis_nn.c` and `.h`, which stand in for them where a user brings
        CMSIS-NN.

    Raises
    ------
    UserError
        As `write_c`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        write_c(path, folder, path.stem)
        write_c(path, folder, f"{path.stem}_cmsis_nn", cmsis_nn=True)
    with as_file(files("xmae.export.targets.c") / "kernels") as kernels:
        for file in sorted(kernels.glob("*.[ch]")):
            shutil.copyfile(file, folder / file.name)


def write_c(path, folder, name=NAME, cmsis_nn=False):
    """Write `<name>.h` and `<name>.c` for an int8 `.tflite` with one input and one output.

    Parameters
    ----------
    path : str or Path
        The model: CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, ADD, MEAN over height and width,
        AVERAGE_POOL_2D, PAD and RESHAPE, in int8 with a batch of one.
    folder : str or Path
        Folder to write into.
    name : str
        Name of the two files.
    cmsis_nn : bool
        Call CMSIS-NN's convolutions instead of this package's, through `xmae_cmsis_nn.h`.

    Returns
    -------
    dict
        `files`; `input_size`, `arena_bytes`, `weight_bytes`, `macs`; `layers`: dicts with `name`,
        `op`, `macs`, `constant_bytes`, `function`.

    Raises
    ------
    UserError
        If the file is damaged, uses anything else, or the folder cannot be written.
    """
    tensors, layers, source, sink = read_layers(path)
    if cmsis_nn:
        layers = [for_cmsis_nn(layer) for layer in layers]
    arena, offsets = plan(tensors, layers, source, sink)
    image, structs = constants(layers)
    network = Network(name, tensors, layers, source, sink, arena, offsets, image, structs)
    header, body = header_of(network), body_of(network)
    if cmsis_nn:
        body = body.replace('#include "xmae_kernels.h"', '#include "xmae_cmsis_nn.h"')
    written = [Path(folder) / f"{name}{suffix}" for suffix in (".h", ".c")]
    for file, text in zip(written, (header, body), strict=True):
        with atomic_file(file) as temporary:
            temporary.write_text(text)
    return {
        "files": [str(file) for file in written],
        "input_size": tensors[source].size,
        "arena_bytes": arena,
        "weight_bytes": len(image),
        "macs": sum(layer.macs for layer in layers),
        "layers": [
            {
                "name": f"{i:02d}_{layer.op.lower()}", "op": layer.op, "macs": layer.macs,
                "constant_bytes": sum(array.nbytes for array in layer.constants.values()),
                "function": function(i),
            }
            for i, layer in enumerate(layers)
        ],
    }  # fmt: skip


def plan(tensors, layers, source, sink):
    """Plan the arena: return its bytes, and each tensor's offset (-1: the model's input, -2: its
    output).

    Greedy by size, as TFLM's planner: the largest tensor first, each at the lowest place free
    during its life. A reshape is its input under another name. A layer's scratch memory is one more
    tensor, which lives for this layer.
    """
    alias = {}
    for layer in layers:
        if not layer.kernel:
            alias[layer.output] = alias.get(layer.inputs[0], layer.inputs[0])
    lives = {}
    for step, layer in enumerate(layers):
        for number in (*layer.inputs, layer.output):
            number = alias.get(number, number)
            first, _, size = lives.get(number, (step, step, tensors[number].size))
            lives[number] = first, step, size
        if layer.scratch:
            lives["scratch", step] = step, step, layer.scratch
    offsets = {source: -1, alias.get(sink, sink): -2}
    for number in offsets:
        lives.pop(number, None)
    placed, total = [], 0
    for number, (first, last, size) in sorted(lives.items(), key=lambda item: -item[1][2]):
        offset = 0
        for start, end, begins, ends in sorted(placed):
            if begins <= last and first <= ends and offset < end and start < offset + size:
                offset = -(-end // ALIGN) * ALIGN
        placed.append((offset, offset + size, first, last))
        offsets[number] = offset
        total = max(total, offset + size)
    offsets |= {number: offsets[root] for number, root in alias.items()}
    return -(-total // ALIGN) * ALIGN, offsets


def constants(layers):
    """Return the image of all constants, little-endian, and (layer, field, C type, offset, array)
    of each part of it.

    Words come before bytes, so that the image is one struct without gaps.
    """
    parts = []
    for i, layer in enumerate(layers):
        parts += [(i, key, array) for key, array in layer.constants.items()]
    parts.sort(key=lambda part: -part[2].itemsize)
    structs, offset = [], 0
    for i, key, array in parts:
        structs.append((i, key, "int32_t" if array.itemsize == 4 else "int8_t", offset, array))
        offset += array.nbytes
    image = b"".join(array.tobytes() for *_, array in structs)
    return image + bytes(-len(image) % 4), structs


def function(i):
    """Return the function name of layer `i`."""
    return f"xmae_layer_{i:02d}"


def numbers(array):
    """Return the elements of an array as lines of C."""
    items = [integer(value) for value in array.tolist()]
    per_line = 24 if array.itemsize == 1 else 10
    return ",\n".join(",".join(items[i : i + per_line]) for i in range(0, len(items), per_line))


@dataclass(frozen=True)
class Network:
    """A network laid out in memory, ready to be written as C.

    Attributes
    ----------
    name : str
        Name of the two files.
    tensors, layers : list
        As `read_layers` gives them.
    source, sink : int
        Numbers of the input's and the output's tensor.
    arena : int
        Bytes of working memory.
    offsets : dict
        Each tensor's place in it, as `plan` gives them.
    image : bytes
        All constants, in the order of flash.
    structs : list of tuple
        Its parts, as `constants` gives them.
    """

    name: str
    tensors: list
    layers: list
    source: int
    sink: int
    arena: int
    offsets: dict
    image: bytes
    structs: list

    def place(self, key):
        """Return the C expression for the address of a tensor."""
        offset = self.offsets[key]
        return {-1: "source", -2: "sink"}.get(offset, f"arena.bytes + {offset}")


def header_of(network):
    """Return the text of the header file."""
    x, y = network.tensors[network.source], network.tensors[network.sink]
    guard = identifier(network.name).upper() + "_H"
    macs = sum(layer.macs for layer in network.layers)
    return f"""/* {comment(network.name)}: {macs} multiply-accumulates.
 *
 * Written by `xmae export --targets c`. */
#ifndef {guard}
#define {guard}
#include <stdint.h>
#define XMAE_INPUT_SIZE {integer(x.size)}
#define XMAE_OUTPUT_SIZE {integer(y.size)}
/* real = scale * (code - zero point) */
#define XMAE_INPUT_SCALE {real(x.scale)}
#define XMAE_INPUT_ZERO_POINT ({integer(x.zero)})
#define XMAE_OUTPUT_SCALE {real(y.scale)}
#define XMAE_OUTPUT_ZERO_POINT ({integer(y.zero)})
#define XMAE_ARENA_BYTES {network.arena}
#define XMAE_WEIGHTS_BYTES {len(network.image)}
/* of `xmae_weights` as it lies in flash */
#define XMAE_WEIGHTS_CRC32 0x{zlib.crc32(network.image):08x}u
void xmae_model(const int8_t *input, int8_t *output); /* not reentrant: one static arena */
uint32_t xmae_weights_crc32(void);
#endif
"""


def weights_of(network):
    """Return the C text of the constants: a struct without gaps, and its values."""
    members = [f"  {ctype} {key}_{i:02d}[{a.size}];" for i, key, ctype, _, a in network.structs]
    values = [f"{{{numbers(array)}}}" for *_, array in network.structs]
    padding = len(network.image) - sum(array.nbytes for *_, array in network.structs)
    if padding:
        members.append(f"  int8_t padding[{padding}];")
        values[-1] += ",{0}"
    members, values = "\n".join(members), ",\n".join(values)
    return f"""typedef struct {{
{members}
}} weights_t;
typedef char weights_have_no_gaps[sizeof(weights_t) == XMAE_WEIGHTS_BYTES ? 1 : -1];

extern const weights_t xmae_weights;
/* clang-format off */
__attribute__((section(".weights"))) const weights_t xmae_weights = {{
{values}
}};
/* clang-format on */
"""


def layer_of(network, i):
    """Return the C function of layer `i`, which calls its kernel."""
    layer = network.layers[i]
    arguments = [network.place(number) for number in (*layer.inputs, layer.output)]
    if layer.scratch:
        arguments.append(network.place(("scratch", i)))
    struct = STRUCTS.get(layer.kernel, f"{layer.kernel}_t")
    fields = [f".{key} = xmae_weights.{key}_{i:02d}" for key in layer.constants]
    fields += [f".{key} = {integer(value)}" for key, value in layer.fields.items()]
    opening = f"  static const {struct} layer = {{"
    inner = ", ".join(fields)
    if len(opening) + len(inner) > LINE - 2:
        inner = (",\n" + " " * len(opening)).join(fields)
    output, size = network.place(layer.output), integer(network.tensors[layer.output].size)
    return f"""
void {function(i)}(void); /* {layer.op}, {layer.macs} multiply-accumulates */
MARKER void {function(i)}(void) {{
{opening}{inner}}};
  {layer.kernel}(&layer, {", ".join(arguments)});
  TRACE({i}, {output}, {size});
}}
"""


PREAMBLE = """
/* So that an emulator can count instructions per layer. */
#define MARKER __attribute__((noinline))
/* The program wants to see what each layer gives. */
#ifdef XMAE_TRACE
void xmae_trace(int layer, const int8_t *output, int bytes);
#define TRACE(layer, output, bytes) xmae_trace(layer, output, bytes)
#else
#define TRACE(layer, output, bytes)
#endif

"""


def body_of(network):
    """Return the text of the source file."""
    calls = [i for i, layer in enumerate(network.layers) if layer.kernel]
    functions = "".join(layer_of(network, i) for i in calls)
    steps = "\n".join(f"  {function(i)}();" for i in calls)
    return f"""/* {comment(network.name)}: constants and layers.
 *
 * Written by `xmae export --targets c`. */
#include "{network.name}.h"
#include "xmae_kernels.h"
{PREAMBLE}{weights_of(network)}
static union {{
  int8_t bytes[XMAE_ARENA_BYTES];
  uint64_t alignment;
}} arena;
static const int8_t *source;
static int8_t *sink;
{functions}
void xmae_model_end(void);
MARKER void xmae_model_end(void) {{ __asm__ volatile("" ::: "memory"); }}

void xmae_model(const int8_t *input, int8_t *output) {{
  source = input;
  sink = output;
{steps}
  xmae_model_end();
}}

uint32_t xmae_weights_crc32(void) {{ return xmae_crc32(0, &xmae_weights, sizeof xmae_weights); }}
"""
