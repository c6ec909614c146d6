package org.tensorflow.lite;

/** Stands in for LiteRT's. */
public interface Tensor {
    class QuantizationParams {
        public float getScale() {
            return 0;
        }

        public int getZeroPoint() {
            return 0;
        }
    }

    int numBytes();

    QuantizationParams quantizationParams();
}
