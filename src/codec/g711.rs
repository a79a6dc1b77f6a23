//! Tables with the linear sample value of each G.711 code word, for decoders and for the level meters of live calls.

use super::CompandingLaw;

/// Returns the linear value of each code word, scaled to 16 bits as the G.191 reference software does.
pub(crate) const fn linear_values(law: CompandingLaw) -> &'static [i16; 256] {
    match law {
        CompandingLaw::A => &A_LAW,
        CompandingLaw::Mu => &MU_LAW,
    }
}

/// Decodes A-law (G.711 table 1a): even bits are inverted (0x55), then sign, 3 bits of segment, 4 bits of interval.
const fn a_law(code: u8) -> i16 {
    let code = code ^ 0x55;
    let segment = (code >> 4) & 7;
    let interval = ((code & 15) as i16) << 4;
    let magnitude = if segment == 0 { interval + 8 } else { (interval + 0x108) << (segment - 1) };
    if code & 0x80 == 0 { -magnitude } else { magnitude }
}

/// Decodes mu-law (G.711 table 2a): all bits are inverted, and the bias of 33 (132 on the 16-bit scale) is subtracted.
const fn mu_law(code: u8) -> i16 {
    let code = !code;
    let magnitude = ((((code & 15) as i16) << 3) + 0x84) << ((code >> 4) & 7);
    if code & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

const fn tabulate(law: CompandingLaw) -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = match law {
            CompandingLaw::A => a_law(code as u8),
            CompandingLaw::Mu => mu_law(code as u8),
        };
        code += 1;
    }
    table
}

static A_LAW: [i16; 256] = tabulate(CompandingLaw::A);
static MU_LAW: [i16; 256] = tabulate(CompandingLaw::Mu);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_words_have_the_values_of_the_recommendation() {
        // The largest, smallest and quietest values of G.711 tables 1a and 2a, on the 16-bit scale. A-law values have
        // 13 bits and are shifted left by 3; mu-law values have 14 bits and are shifted by 2.
        assert_eq!(A_LAW[0xAA], 4032 * 8);
        assert_eq!(A_LAW[0x2A], -4032 * 8);
        assert_eq!((A_LAW[0xD5], A_LAW[0x55]), (8, -8));
        assert_eq!(MU_LAW[0x80], 8031 * 4);
        assert_eq!(MU_LAW[0x00], -8031 * 4);
        assert_eq!((MU_LAW[0xFF], MU_LAW[0x7F]), (0, 0));
    }
}
