import java.util.Arrays;
import java.util.Scanner;
import xmae.PpgStream;

/** Plays codes of standard input, 125 Hz and 16 bits: a line a result, every tenth with window and embedding. */
public final class Play {
    public static void main(String[] words) {
        int[] codes = new Scanner(System.in).tokens().mapToInt(Integer::parseInt).toArray();
        try (PpgStream stream = new PpgStream(125, 16, false, 1)) {
            int results = 0;
            for (int code : codes) {
                stream.push(new int[] {code}, 1, 0);
                PpgStream.Result r = stream.read();
                if (r == null) {
                    continue;
                }
                results++;
                System.out.println(line(r));
                if (results % 10 == 0) {
                    System.out.println("window " + Arrays.toString(stream.window()));
                    System.out.println("embedding " + Arrays.toString(stream.embed()));
                }
            }
            refuse(() -> stream.push(new int[] {1 << 16}, 1, 0));
            refuse(() -> stream.push(null, 1, 0));
            refuse(() -> stream.push(new int[1], 2, 0));
            refuse(() -> stream.push(new int[1], 1, -1));
        }
        refuse(() -> new PpgStream(24, 16, false, 1));
        refuse(() -> new PpgStream(125, 272, false, 1));
        refuse(() -> new PpgStream(125, 16, false, 65537));
    }

    private static String line(PpgStream.Result r) {
        return r.time + " " + Math.round(100 * r.rate) + " " + Math.round(100 * r.low) + " "
                + Math.round(100 * r.high) + " " + r.certainty + " " + r.irregularity + " " + r.rhythm + " "
                + r.lost + " " + r.saturated + " " + r.reasons + " beats " + Arrays.deepToString(r.beats);
    }

    private static void refuse(Runnable call) {
        try {
            call.run();
            System.out.println("not refused");
        } catch (IllegalArgumentException why) {
            System.out.println("refused: " + why.getMessage());
        }
    }
}
