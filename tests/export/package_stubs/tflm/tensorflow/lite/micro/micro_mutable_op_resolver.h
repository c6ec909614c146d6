/* Stands in for TensorFlow Lite Micro's, so that a recipe compiles. */
#ifndef STUB_RESOLVER_H
#define STUB_RESOLVER_H

typedef enum { kTfLiteOk = 0, kTfLiteError = 1 } TfLiteStatus;

namespace tflite {
template <unsigned n>
class MicroMutableOpResolver {
 public:
  TfLiteStatus AddAdd() { return add(); }
  TfLiteStatus AddAveragePool2D() { return add(); }
  TfLiteStatus AddConcatenation() { return add(); }
  TfLiteStatus AddConv2D() { return add(); }
  TfLiteStatus AddDepthwiseConv2D() { return add(); }
  TfLiteStatus AddFullyConnected() { return add(); }
  TfLiteStatus AddMean() { return add(); }
  TfLiteStatus AddPad() { return add(); }
  TfLiteStatus AddQuantize() { return add(); }
  TfLiteStatus AddReshape() { return add(); }

 private:
  unsigned added = 0;
  TfLiteStatus add() { return ++added > n ? kTfLiteError : kTfLiteOk; }
};
}  // namespace tflite

#endif
