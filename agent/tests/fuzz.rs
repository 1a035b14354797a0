//! Fuzzing. A target takes bytes and panics when the code under test does what it must not. The targets are unit tests,
//! in the `fuzz.rs` beside that code, so that nothing has to be public for them.
//!
//! - `cargo nextest run --lib -E 'test(fuzz::)'`: the smoke test. A fixed number of mutations of real inputs, the same
//!   in every run; proptest makes the input that fails as small as it can. More of them, and others each time, with
//!   `TAILRACE_TEST_CASES` above the default.
//! - `tests/fuzz/run TARGET`: the same functions under libFuzzer, which looks for inputs that reach new code.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use std::fmt;
use std::time::{Duration, Instant};

/// Bytes of an input at most, in the smoke test.
const MAX_INPUT_BYTES: usize = 64 << 10;
/// How long making a failing input smaller may take.
const MAX_SHRINK_TIME: Duration = Duration::from_secs(20);
/// What one input may take, on a machine that does other work too. libFuzzer has a limit of its own.
const MAX_INPUT_TIME: Duration = Duration::from_secs(20);

/// A fuzz target.
pub(crate) struct Target {
    /// Inputs as they are in practice, which are mutated.
    pub seeds: Vec<Vec<u8>>,
    /// What means something in an input: mutations insert it.
    pub tokens: &'static [&'static [u8]],
    /// Inputs of the smoke test, in multiples of the cases of a property test: those of one second or two.
    pub factor: f64,
    /// Panics when the code under test fails.
    pub run: fn(&[u8]),
}

/// Defines the test of a target.
macro_rules! fuzz_test {
    ($name:ident, $target:expr) => {
        #[test]
        fn $name() {
            let target: $crate::tests::fuzz::Target = $target;
            #[cfg(fuzzing)]
            {
                target.write_seeds();
                bolero::check!().for_each(target.run);
            }
            #[cfg(not(fuzzing))]
            target.smoke();
        }
    };
}
pub(crate) use fuzz_test;

/// An input, shown as a literal to be pasted into a test.
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// A change of an input.
#[derive(Clone, Debug)]
enum Edit {
    Set(Index, u8),
    FlipBit(Index, u8),
    Insert(Index, Vec<u8>),
    Token(Index, Index),
    Remove(Index, usize),
    Truncate(Index),
    Copy { from: Index, len: usize, to: Index, times: usize },
    Splice { seed: Index, from: Index, at: Index },
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        3 => (at(), 0u8..8).prop_map(|(at, bit)| Edit::FlipBit(at, bit)),
        2 => (at(), prop::collection::vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        4 => (at(), at()).prop_map(|(at, token)| Edit::Token(at, token)),
        3 => (at(), 1usize..64).prop_map(|(at, len)| Edit::Remove(at, len)),
        1 => at().prop_map(Edit::Truncate),
        3 => (at(), 1usize..64, at(), 1usize..4)
            .prop_map(|(from, len, to, times)| Edit::Copy { from, len, to, times }),
        1 => (at(), 1usize..64, at(), 4usize..2000)
            .prop_map(|(from, len, to, times)| Edit::Copy { from, len, to, times }),
        1 => (at(), at(), at()).prop_map(|(seed, from, at)| Edit::Splice { seed, from, at }),
    ]
}

impl Target {
    fn apply(&self, input: &mut Vec<u8>, edit: Edit) {
        let place = |input: &[u8], at: Index| at.index(input.len() + 1);
        match edit {
            Edit::Set(at, byte) if !input.is_empty() => {
                let at = at.index(input.len());
                input[at] = byte;
            }
            Edit::FlipBit(at, bit) if !input.is_empty() => {
                let at = at.index(input.len());
                input[at] ^= 1 << bit;
            }
            Edit::Insert(at, bytes) => {
                let at = place(input, at);
                input.splice(at..at, bytes);
            }
            Edit::Token(at, token) if !self.tokens.is_empty() => {
                let at = place(input, at);
                input.splice(at..at, token.get(self.tokens).iter().copied());
            }
            Edit::Remove(at, len) => {
                let at = place(input, at);
                input.drain(at..input.len().min(at + len));
            }
            Edit::Truncate(at) => input.truncate(place(input, at)),
            Edit::Copy { from, len, to, times } => {
                let (from, to) = (place(input, from), place(input, to));
                let times = times.min((MAX_INPUT_BYTES - input.len()) / len);
                let copied = input[from..input.len().min(from + len)].repeat(times);
                input.splice(to..to, copied);
            }
            Edit::Splice { seed, from, at } if !self.seeds.is_empty() => {
                let seed = seed.get(&self.seeds);
                input.truncate(place(input, at));
                input.extend_from_slice(&seed[place(seed, from)..]);
            }
            Edit::Set(..) | Edit::FlipBit(..) | Edit::Token(..) | Edit::Splice { .. } => {}
        }
        input.truncate(MAX_INPUT_BYTES);
    }

    /// Runs the seeds, then mutations of them and arbitrary bytes.
    #[cfg_attr(fuzzing, expect(dead_code, reason = "libFuzzer makes the inputs"))]
    pub(crate) fn smoke(&self) {
        self.seeds.iter().for_each(|seed| (self.run)(seed));
        // Whoever asks for more inputs wants others each time.
        let asks_for_more = super::property_config().cases > super::DEFAULT_CASES;
        let config = Config {
            failure_persistence: None, // what is found becomes a test of its own
            rng_seed: if asks_for_more { RngSeed::Random } else { RngSeed::Fixed(15) },
            max_shrink_time: MAX_SHRINK_TIME.as_millis() as u32,
            ..super::property_config_with(self.factor)
        };
        let mutated = (any::<Index>(), prop::collection::vec(edit(), 1..6)).prop_map(|(seed, edits)| {
            let mut input = if self.seeds.is_empty() { Vec::new() } else { seed.get(&self.seeds).clone() };
            for edit in edits {
                self.apply(&mut input, edit);
            }
            Input(input)
        });
        let arbitrary = prop::collection::vec(any::<u8>(), 0..200).prop_map(Input);
        let result =
            TestRunner::new(config).run(&prop_oneof![9 => mutated, 1 => arbitrary], |Input(input)| {
                let start = Instant::now();
                (self.run)(&input);
                prop_assert!(start.elapsed() < MAX_INPUT_TIME, "it took {:?}", start.elapsed());
                Ok(())
            });
        if let Err(error) = result {
            panic!("{error}");
        }
    }

    /// Writes the seeds where libFuzzer looks for inputs.
    #[cfg(fuzzing)]
    pub(crate) fn write_seeds(&self) {
        let Some(corpus) = std::env::var_os("TAILRACE_FUZZ_CORPUS") else { return };
        for (index, seed) in self.seeds.iter().enumerate() {
            let path = std::path::Path::new(&corpus).join(format!("seed-{index:02}"));
            std::fs::write(path, seed).expect("a seed is written");
        }
    }
}
