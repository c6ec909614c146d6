package org.tensorflow.lite;

/** Stands in for LiteRT's, so that what calls it compiles. */
public final class Interpreter {
    public static class Options {
        public Options setNumThreads(int threads) {
            return this;
        }
    }

    public Interpreter(java.nio.ByteBuffer model, Options options) {}

    public Tensor getInputTensor(int index) {
        return null;
    }

    public Tensor getOutputTensor(int index) {
        return null;
    }

    public void run(Object input, Object output) {}

    public void close() {}
}
