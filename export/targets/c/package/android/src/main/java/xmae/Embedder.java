// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: the xMAE authors
package xmae;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.tensorflow.lite.Interpreter;
import org.tensorflow.lite.Tensor;

/** Embeds windows of {@link PpgStream#window} by LiteRT, with an int8 file of the bundle. */
public final class Embedder implements AutoCloseable {
    private final Interpreter interpreter;
    private final ByteBuffer input;
    private final ByteBuffer output;
    private final Tensor result;

    /**
     * Opens a model.
     *
     * @param model the file's content, a direct buffer such as a mapped asset
     * @param threads of the interpreter
     */
    public Embedder(ByteBuffer model, int threads) {
        interpreter = new Interpreter(model, new Interpreter.Options().setNumThreads(threads));
        result = interpreter.getOutputTensor(0);
        input = direct(interpreter.getInputTensor(0).numBytes());
        output = direct(result.numBytes());
        if (input.capacity() != PpgStream.WINDOW) {
            throw new IllegalArgumentException("the model takes no windows of 1000 bytes");
        }
    }

    /** Returns the embedding, and behind it the timing map of a model that reads beats. */
    public float[] embed(byte[] window) {
        input.rewind();
        input.put(window);
        input.rewind();
        output.rewind();
        interpreter.run(input, output);
        float scale = result.quantizationParams().getScale();
        int zero = result.quantizationParams().getZeroPoint();
        float[] values = new float[output.capacity()];
        for (int i = 0; i < values.length; i++) {
            values[i] = scale * (output.get(i) - zero);
        }
        return values;
    }

    @Override
    public void close() {
        interpreter.close();
    }

    private static ByteBuffer direct(int bytes) {
        return ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder());
    }
}
