// An ExecuTorch model on Arm Linux: MODEL IN OUT, float32 windows of 1000 in, embeddings out, a
// mark before and after each inference (boards/count_user.c). Only parts of the runtime without the
// C++ standard library in their signatures.
#include <executorch/extension/data_loader/file_data_loader.h>
#include <executorch/extension/threadpool/threadpool_guard.h>
#include <executorch/runtime/executor/memory_manager.h>
#include <executorch/runtime/executor/method.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

using namespace executorch::runtime;
using executorch::extension::FileDataLoader;

static uint8_t methods[1 << 22], temporary[1 << 20];
static float window[1000];

static int fail(const char *what) {
  fprintf(stderr, "%s failed\n", what);
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 4) return fail("command line");
  runtime_init();
  executorch::extension::threadpool::NoThreadPoolGuard one_thread;
  auto loader = FileDataLoader::from(argv[1]);
  if (!loader.ok()) return fail("reading the model");
  auto program = Program::load(&loader.get());
  if (!program.ok()) return fail("loading the model");
  auto meta = program->method_meta("forward");
  if (!meta.ok()) return fail("finding forward()");
  Span<uint8_t> planned[8];
  const size_t n_planned = meta->num_memory_planned_buffers();
  if (n_planned > 8) return fail("planning memory");
  for (size_t i = 0; i < n_planned; i++) {
    const size_t bytes = meta->memory_planned_buffer_size(i).get();
    planned[i] = Span<uint8_t>(static_cast<uint8_t *>(malloc(bytes)), bytes);
  }
  MemoryAllocator long_lived(sizeof methods, methods), short_lived(sizeof temporary, temporary);
  HierarchicalAllocator buffers(Span<Span<uint8_t>>(planned, n_planned));
  MemoryManager memory(&long_lived, &buffers, &short_lived);
  auto method = program->load_method("forward", &memory);
  if (!method.ok()) return fail("loading forward()");
  executorch::aten::SizesType sizes[4] = {1, 1, 1, 1000};
  executorch::aten::DimOrderType order[4] = {0, 1, 2, 3};
  executorch::aten::StridesType strides[4] = {1000, 1000, 1000, 1};
  executorch::aten::TensorImpl tensor(executorch::aten::ScalarType::Float, 4, sizes, window, order,
                                      strides);
  FILE *in = fopen(argv[2], "rb"), *out = fopen(argv[3], "wb");
  if (!in || !out) return fail("opening input or output");
  for (bool warm = false; fread(window, sizeof window, 1, in) == 1; warm = true) {
    if (method->set_input(EValue(executorch::aten::Tensor(&tensor)), 0) != Error::Ok)
      return fail("setting the input");
    if (!warm && method->execute() != Error::Ok) return fail("running the model");
    syscall(5050, 0x5050, 1, 0, 0, 0, 0);
    if (method->execute() != Error::Ok) return fail("running the model");
    syscall(5050, 0x5050, 2, 0, 0, 0, 0);
    const auto embedding = method->get_output(0).toTensor();
    fwrite(embedding.const_data_ptr<float>(), sizeof(float), embedding.numel(), out);
  }
  return fclose(out) ? fail("writing") : 0;
}
