//! Tests of G.726 with the ITU test sequences, and of both packings.

use super::*;
use crate::codec::CompandingLaw;
use crate::codec::g711::linear_values;

#[test]
fn both_packings_decode_a_group_of_code_words_alike() {
    for rate in [G726Rate::Two, G726Rate::Three, G726Rate::Four, G726Rate::Five] {
        let bits = code_bits(rate);
        let codes: Vec<u64> = (0..8u64).map(|i| (i * 5 + 1) & ((1 << bits) - 1)).collect();
        let (mut little, mut big) = (0u64, 0u64);
        for (i, code) in codes.iter().enumerate() {
            little |= code << (bits * i as u32);
            big |= code << (64 - bits * (i as u32 + 1));
        }
        let octets = bits as usize;
        let (mut left, mut right, mut one_by_one) = (Vec::new(), Vec::new(), Vec::new());
        G726Decoder::new(rate, G726Packing::Rfc3551).decode(&little.to_le_bytes()[..octets], &mut left).unwrap();
        G726Decoder::new(rate, G726Packing::Aal2).decode(&big.to_be_bytes()[..octets], &mut right).unwrap();
        let mut decoder = G726Decoder::new(rate, G726Packing::Aal2);
        for &code in &codes {
            one_by_one.push(decoder.sample(code as usize) << 2);
        }
        assert_eq!(left, one_by_one, "{rate:?}");
        assert_eq!(right, one_by_one, "{rate:?}");
    }
}

/// The ITU sequences map code words to G.711, with the synchronous coding adjustment. The test computes that adjustment
/// from the decoder's signal, prediction and scale factor.
#[test]
#[cfg_attr(not(has_corpus_codecs), ignore = "needs CALLSPAN_CORPUS with the vectors of the ITU in codecs")]
fn every_itu_sequence_gives_the_recommended_output() {
    let root = std::env::var_os("CALLSPAN_CORPUS").unwrap();
    let folder = std::path::PathBuf::from(root).join("codecs/ITU-STL/g726/test_data");
    let read = |name: &str| -> Vec<u8> {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        bytes.as_chunks::<2>().0.iter().map(|word| word[0]).collect()
    };
    let mut compared = 0;
    for (rate, kbit) in [(G726Rate::Two, 16), (G726Rate::Three, 24), (G726Rate::Four, 32), (G726Rate::Five, 40)] {
        // In the names of the sequences, `rn` is normal level and `rv` is overload. The inputs `fa` and `fm` are in
        // A-law and mu-law. The outputs `fa` and `fc` are in A-law, `fm` and `fx` in mu-law.
        for kind in ["rn", "rv"] {
            for (input, output, law) in [
                ("fa", "fa", CompandingLaw::A),
                ("fa", "fx", CompandingLaw::Mu),
                ("fm", "fm", CompandingLaw::Mu),
                ("fm", "fc", CompandingLaw::A),
            ] {
                let codes = read(&format!("{kind}{kbit}{input}.i"));
                let expected = read(&format!("{kind}{kbit}{output}.o"));
                compare(rate, law, &codes, &expected, &format!("{kind}{kbit}{output}"));
                compared += 1;
            }
        }
        for (output, law) in [("fa", CompandingLaw::A), ("fm", CompandingLaw::Mu)] {
            let expected = read(&format!("ri{kbit}{output}.o"));
            compare(rate, law, &read(&format!("i{kbit}")), &expected, &format!("ri{kbit}{output}"));
            compared += 1;
        }
    }
    assert_eq!(compared, 40);
}

fn compare(rate: G726Rate, law: CompandingLaw, codes: &[u8], expected: &[u8], name: &str) {
    let mut decoder = G726Decoder::new(rate, G726Packing::Aal2);
    let got: Vec<u8> = codes.iter().map(|&code| decode_to_law(&mut decoder, law, usize::from(code))).collect();
    assert_eq!(got.len(), expected.len(), "{name}");
    let wrong = got.iter().zip(expected).filter(|(a, b)| a != b).count();
    assert_eq!(wrong, 0, "{name}: first at {:?}", got.iter().zip(expected).position(|(a, b)| a != b));
}

/// Decodes a code to G.711 with the adjustment (COMPRESS, EXPAND, SUBTA, LOG, SUBTB and SYNC; clause 4.2.8).
fn decode_to_law(decoder: &mut G726Decoder, law: CompandingLaw, code: usize) -> u8 {
    let (rate, scale) = (decoder.rate, decoder.scale.mixed(&decoder.speed));
    let (predicted, _) = decoder.predictor.predict();
    let signal = decoder.sample(code);
    let compressed = compress(law, signal);
    let expanded = i32::from(linear_values(law)[usize::from(compressed)]) >> 2;
    let again = quantize(rate, expanded - predicted, scale);
    let order = |code: usize| code ^ (1 << (code_bits(rate) - 1));
    match order(again).cmp(&order(code)) {
        std::cmp::Ordering::Equal => compressed,
        std::cmp::Ordering::Greater => neighbour(law, compressed, -1),
        std::cmp::Ordering::Less => neighbour(law, compressed, 1),
    }
}

/// Returns the code word nearest to a signal. If two code words are equally near, returns that of smaller magnitude, as
/// the decision values of G.711 require.
fn compress(law: CompandingLaw, signal: i16) -> u8 {
    // The block COMPRESS uses a magnitude of 15 bits, in which -32768 has magnitude 0.
    let signal = match (signal, law) {
        (i16::MIN, CompandingLaw::A) => -1,
        (i16::MIN, CompandingLaw::Mu) => 0,
        _ => signal,
    };
    match law {
        CompandingLaw::A => {
            // For A-law, the block COMPRESS uses 13 bits. A negative signal is one step nearer to zero.
            let value = i32::from(signal) >> 1;
            let (sign, magnitude) = if value >= 0 { (0x80, value) } else { (0, -value - 1) };
            let magnitude = magnitude.clamp(0, 4_095);
            let segment = (length(magnitude >> 5)).max(0);
            let interval = if segment < 2 { magnitude >> 1 } else { magnitude >> segment } & 15;
            (sign | segment << 4 | interval) as u8 ^ 0x55
        }
        CompandingLaw::Mu => {
            let value = i32::from(signal);
            let (sign, magnitude) = if value >= 0 { (0x80, value) } else { (0, -value) };
            let magnitude = magnitude.min(8_158) + 33;
            let segment = length(magnitude >> 6);
            let interval = (magnitude >> (segment + 1)) & 15;
            (!(segment << 4 | interval) & 0x7F | sign) as u8
        }
    }
}

/// Returns the next code word up or down in the order of the values. The two zeros of mu-law count as one value.
fn neighbour(law: CompandingLaw, code: u8, step: i32) -> u8 {
    let table = linear_values(law);
    let mut order: Vec<u8> = (0..=255).collect();
    order.sort_by_key(|&code| table[usize::from(code)]);
    order.dedup_by_key(|code| table[usize::from(*code)]);
    let value = table[usize::from(code)];
    let at = order.iter().position(|&other| table[usize::from(other)] == value).unwrap() as i32;
    let next = order[(at + step).clamp(0, order.len() as i32 - 1) as usize];
    // Mu-law has two codes for zero. The code with the sign of `code` is returned.
    if table[usize::from(next)] == 0 { code & 0x80 | 0x7F } else { next }
}

fn quantize(rate: G726Rate, difference: i32, scale: i32) -> usize {
    let magnitude = difference.abs();
    let exponent = length(magnitude >> 1);
    let log = (exponent << 7) + (((magnitude << 7) >> exponent) & 127) - (scale >> 2);
    let decisions: &[i32] = match rate {
        G726Rate::Two => &[261],
        G726Rate::Three => &[8, 218, 331],
        G726Rate::Four => &[-124, 80, 178, 246, 300, 349, 400],
        G726Rate::Five => &[-122, -16, 68, 139, 198, 250, 298, 339, 378, 413, 445, 475, 502, 528, 553],
    };
    let level = decisions.iter().filter(|&&decision| log >= decision).count();
    let all = (1 << code_bits(rate)) - 1;
    // Code 0 exists at 16 kbit/s only. At other rates, the code of the smallest positive difference has all bits set.
    match (difference < 0, level) {
        (true, _) => all - level,
        (false, 0) if rate != G726Rate::Two => all,
        _ => level,
    }
}
