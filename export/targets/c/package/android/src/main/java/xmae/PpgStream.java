// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: the xMAE authors
package xmae;

/**
 * A stream of PPG through libxmae: codes in, beats and heart rate out. One thread at a time.
 *
 * <p>What the library refuses throws IllegalArgumentException; the stream is then as it was.
 */
public final class PpgStream implements AutoCloseable {
    /** Samples of a window: 10 s at 100 Hz. */
    public static final int WINDOW = 1000;

    private static final int FIELDS = 10;
    private static final int MAX_BEATS = 40;

    static {
        System.loadLibrary("xmae_jni");
    }

    private final long[] numbers = new long[FIELDS + 2 * MAX_BEATS];
    private long handle;

    /** What the stream says of the time since the last result. */
    public static final class Result {
        /** Time that it is of, ticks of 1/6400 s. */
        public final long time;

        /** Heart rate and the interval that holds it in nine of ten cases, bpm; 0: none is given. */
        public final double rate, low, high;

        /** Certainty, 0 to 255. */
        public final int certainty;

        /** Mean change of intervals over their mean, 1/1000; -1: too few. */
        public final int irregularity;

        /** As xmae_rhythm_t and xmae_reason_t of xmae.h. */
        public final int rhythm, reasons;

        /** Codes lost, and at the converter's rail, in the last 10 s. */
        public final int lost, saturated;

        /** Beats since the last result: time in ticks, and confidence, 0 to 255. */
        public final long[][] beats;

        private Result(long[] n, int count) {
            time = n[0];
            rate = n[1] / 100.0;
            low = n[2] / 100.0;
            high = n[3] / 100.0;
            certainty = (int) n[4];
            irregularity = (int) n[5];
            rhythm = (int) n[6];
            lost = (int) n[7];
            saturated = (int) n[8];
            reasons = (int) n[9];
            beats = new long[count][];
            for (int i = 0; i < count; i++) {
                beats[i] = new long[] {n[FIELDS + 2 * i], n[FIELDS + 2 * i + 1]};
            }
        }
    }

    /**
     * Starts a stream.
     *
     * @param rateHz 25 to 500
     * @param bits width of a code, 8 to 24
     * @param inverted whether codes fall in systole
     * @param hopSeconds from one result to the next, 1 to 3600
     */
    public PpgStream(double rateHz, int bits, boolean inverted, int hopSeconds) {
        handle = open((int) Math.round(1000 * rateHz), bits, inverted, hopSeconds);
    }

    /** Takes the first n codes; `lost` are missing before them. */
    public void push(int[] codes, int n, int lost) {
        push(opened(), codes, n, lost);
    }

    /** Says how many codes may be pushed before a result must be read. */
    public int room() {
        return room(opened());
    }

    /** Takes the result that is waiting, or null. */
    public Result read() {
        int beats = read(opened(), numbers);
        return beats < 0 ? null : new Result(numbers, beats);
    }

    /** Returns the last 10 s as the network takes them, or null in the first 11 s. */
    public byte[] window() {
        byte[] samples = new byte[WINDOW];
        return window(opened(), samples) ? samples : null;
    }

    /** Returns the codes of the embedding of the last 10 s, or null in the first 11 s. */
    public byte[] embed() {
        byte[] codes = new byte[embeddingSize()];
        return embed(opened(), codes) ? codes : null;
    }

    @Override
    public void close() {
        if (handle != 0) {
            release(handle);
        }
        handle = 0;
    }

    private long opened() {
        if (handle == 0) {
            throw new IllegalStateException("the stream is closed");
        }
        return handle;
    }

    private static native long open(int rate, int bits, boolean inverted, int hop);

    private static native void release(long handle);

    private static native int room(long handle);

    private static native void push(long handle, int[] codes, int n, int lost);

    private static native int read(long handle, long[] numbers);

    private static native boolean window(long handle, byte[] window);

    private static native boolean embed(long handle, byte[] embedding);

    private static native int embeddingSize();
}
