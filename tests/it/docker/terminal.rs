//! A container has a terminal: one stream, line ends of terminals, and nothing taken for a frame header.

use super::bench::{Bench, script};

on_all!(output_is_that_of_a_terminal);
async fn output_is_that_of_a_terminal(bench: Bench) {
    let text = "test -t 0 && test -t 1 && test -t 2 && echo terminal; echo out; echo err >&2; echo TERM=$TERM";
    let done = bench.run(script(text)).await.expect("completed/completed");
    done.says("\nterminal\r\nout\r\nerr\r\nTERM=xterm\r\n");
    bench.close();
}

on_all!(no_byte_is_taken_for_a_frame);
async fn no_byte_is_taken_for_a_frame(bench: Bench) {
    // Each write begins with what would be the header of a frame on a stream without a terminal. The pauses keep the writes
    // from being read as one.
    let text = "for n in 0 1 2; do printf \"\\\\00$n\\\\000\\\\000\\\\000\\\\000\\\\000\\\\000\\\\005first$n,\"; usleep 100000; \
                printf \"\\\\00$n\"; usleep 100000; printf \"\\\\000\\\\000\\\\000,\"; usleep 100000; done; echo end";
    let done = bench.run(script(text)).await.expect("completed/completed");
    for n in 0..3_u8 {
        let byte = char::from(n);
        let wanted = format!("{byte}\0\0\0\0\0\0\u{5}first{n},{byte}\0\0\0,");
        assert!(done.log.contains(&wanted), "{wanted:?} is not in\n{:?}", done.log);
    }
    done.says("end\r\n");
    bench.close();
}

on_newest!(a_flood_arrives_whole);
async fn a_flood_arrives_whole(bench: Bench) {
    let done = bench.run(script("seq 1 200000; printf 'no line end'")).await.expect("completed/completed");
    let numbers: Vec<u32> = done.log.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(numbers.len(), 200_000);
    assert!(numbers.iter().zip(1..).all(|(&there, wanted)| there == wanted), "out of order");
    done.says("no line end");
    bench.close();
}
