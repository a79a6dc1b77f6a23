//! The outline of a leg's sound: loudness and pitch of both sides in each tenth of a second, for some seconds.
//!
//! A PBX may change the bytes of a voice on its way from one leg to another (other codec, gain, mixing). Then
//! [`content`](super::content) finds no equal blocks of voice. But loudness and pitch stay about the same, so two legs
//! are compared by them. The pitch is given by the number of zero crossings. Only G.711 is measured. For other codecs
//! an outline shows when packets came.
//!
//! A *point* of an outline is one tenth of a second.
//!
//! Invariants:
//! - The sound of a leg is measured for some seconds ([`SoundOutline::listen`]), if it is doubtful whether the leg
//!   carries the sound of its call. If these seconds show other sound, it is measured further (module [`rolling`]).
//!   After the end of another leg it is measured in another outline (module [`rest`]).
//! - An outline has at most [`MAX_POINTS`] points, 16 bytes each.
//! - Each kept point of a doubtful time is stored in the spool once, so that it survives a restart (module [`piece`]).
//!   The outline after the end of another leg is not stored. After a restart, its time counts as speech.

mod piece;
mod rest;
mod rolling;
mod windows;

use std::time::Duration;

use crate::call::record::Side;
use crate::call::sound_outline::windows::WindowCount;
use crate::time::Timestamp;

pub(crate) use rest::RestOfSound;
pub(crate) use rolling::{ComparisonState, FOLLOW_TIME};

/// Loudness and pitch of both sides of a leg in tenths of a second, in order of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct SoundOutline {
    points: Vec<OutlinePoint>,
    sums: [SoundSum; 2],
    until: Timestamp,
    /// Capture time until which measurements (points) stay. Later points are *rolling*, i.e. removed after some
    /// seconds.
    kept_until: Timestamp,
    /// The newest tenth of a second that is stored in the spool; `None` before the first.
    stored: Option<i64>,
}

/// The result of comparing the sounds of two legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SoundLikeness {
    /// Both legs have the same sound.
    Same,
    /// The sounds of the two legs differ.
    Different,
    /// The first leg had sound for seconds in which the second leg sent no packets, so the second leg lacks this sound.
    Missing,
    /// Only one comparison of a few seconds found the same sound. This is too short to prove that the sounds are the
    /// same.
    Similar,
    /// There is too little to compare: silence, a codec that is not measured, or a short time.
    Unknown,
}

/// Loudness and pitch of both sides of a leg in one tenth of a second.
#[derive(Clone, Copy, Debug)]
struct OutlinePoint {
    /// Capture time of this measurement, in tenths of a second since the Unix epoch.
    tenth: i64,
    sides: [Option<SideSound>; 2],
    /// Whether this measurement stays. Otherwise it is *rolling*: it is removed after some seconds.
    is_kept: bool,
}

/// The sound of one side in a tenth of a second. The side sent packets in this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SideSound {
    /// Packets arrived, but their sound was not measured, e.g. because their code words have no known linear values.
    Unmeasured,
    /// The sound was measured.
    Measured {
        /// Mean amplitude, dB above one step of a 16-bit sample; at least [`LEAST_DB`].
        db: u8,
        /// Number of zero crossings in 255 samples, i.e. the pitch.
        crossings: u8,
    },
}

/// The samples of one side in the newest tenth of a second.
#[derive(Clone, Copy, Debug, Default)]
struct SoundSum {
    tenth: i64,
    packets: u32,
    samples: u32,
    amplitude: u64,
    crossings: u32,
}

impl SoundOutline {
    /// Extends the time in which the sound of the leg is measured to [`LISTEN_TIME`] after `at`. Earlier measurements
    /// stay.
    pub(crate) fn listen(&mut self, at: Timestamp) {
        self.keep();
        self.until = self.until.max(at + LISTEN_TIME);
        self.kept_until = self.kept_until.max(at + LISTEN_TIME);
    }

    /// Returns whether the outline still measures the sound of packets at this capture time.
    #[inline]
    pub(crate) fn is_listening(&self, at: Timestamp) -> bool {
        at < self.until
    }

    /// Measures loudness and pitch of a packet of a side and adds them to the outline. `values` are the linear values
    /// of the packet's code words; `None` if they are unknown.
    pub(crate) fn add(&mut self, side: Side, at: Timestamp, payload: &[u8], values: Option<&[i16; 256]>) {
        let tenth = at.as_nanos().div_euclid(TENTH_NS);
        let sum = self.sums[side.channel()];
        if tenth < sum.tenth {
            return;
        }
        if tenth > sum.tenth {
            self.close_sum(side);
            self.sums[side.channel()] = SoundSum { tenth, ..SoundSum::default() };
        }
        self.sums[side.channel()].add(payload, values);
    }

    /// Ends the current tenth of a second of a side: adds its loudness and pitch to the outline.
    fn close_sum(&mut self, side: Side) {
        let sum = self.sums[side.channel()];
        let Some(sound) = sum.sound() else { return };
        let is_kept = sum.tenth < self.kept_until.as_nanos().div_euclid(TENTH_NS);
        self.add_point(OutlinePoint { is_kept, ..OutlinePoint::new(sum.tenth, side, sound) });
    }

    /// Adds the loudness and pitch of a side in a tenth of a second. If the outline is full, removes the oldest
    /// measurement.
    fn add_point(&mut self, new: OutlinePoint) {
        let place = self.points.iter().rposition(|point| point.tenth <= new.tenth);
        match place.and_then(|place| self.points.get_mut(place)).filter(|point| point.tenth == new.tenth) {
            Some(point) => {
                let [caller, callee] = new.sides;
                point.sides = [caller.or(point.sides[0]), callee.or(point.sides[1])];
                point.is_kept |= new.is_kept;
            }
            None => self.insert_point(place.map_or(0, |place| place + 1), new),
        }
    }

    /// Inserts a point before the point at `place`. If the outline is full, removes the oldest point first, so that the
    /// memory of the outline stays within its bound.
    fn insert_point(&mut self, place: usize, new: OutlinePoint) {
        let is_full = self.points.len() >= MAX_POINTS;
        if is_full && place == 0 {
            return;
        }
        if is_full {
            self.points.remove(0);
        }
        if self.points.len() == self.points.capacity() {
            self.points.reserve_exact(MORE_POINTS);
        }
        self.points.insert(place - usize::from(is_full), new);
    }

    /// Compares the sound of one side with the sound of a side of another leg.
    pub(crate) fn compare(&self, side: Side, other: &Self, other_side: Side) -> SoundLikeness {
        let count = self.count_windows((side, LEAST_POINTS), other, other_side, |_| false);
        let is_found = |count: WindowCount| count.same > 0;
        let has_short = || is_found(self.count_windows((side, LEAST_SHORT_POINTS), other, other_side, is_found));
        match (count.same, count.all) {
            _ if count.is_same() => SoundLikeness::Same,
            _ if count.is_different() => SoundLikeness::Different,
            _ if self.passed_on(side, other, other_side).is_missing() => SoundLikeness::Missing,
            (1, ..=2) => SoundLikeness::Similar,
            (_, 0) if has_short() => SoundLikeness::Similar,
            _ => SoundLikeness::Unknown,
        }
    }

    /// Counts the time windows that match the other sound, and the windows that were compared. A window is compared if
    /// both legs were measured in at least `least` of its tenths of a second. Ends as soon as `is_enough` says so.
    fn count_windows(
        &self,
        (side, least): (Side, usize),
        other: &Self,
        other_side: Side,
        is_enough: impl Fn(WindowCount) -> bool,
    ) -> WindowCount {
        let windows = self.points.windows(WINDOW.min(self.points.len()).max(1)).step_by(WINDOW / 2);
        let delays = windows.filter_map(|window| delays_of_window((window, least), side, other, other_side));
        WindowCount::of(delays, is_enough)
    }

    /// Returns the sounds of a side between two tenths of a second, one item for each tenth.
    fn sounds_between(&self, [first, last]: [i64; 2], side: Side) -> Vec<Option<SideSound>> {
        let begin = self.points.partition_point(|point| point.tenth < first);
        let mut points = self.points.iter().skip(begin).peekable();
        let sound_at = |tenth| points.next_if(|point| point.tenth == tenth)?.sides[side.channel()];
        (first..=last).map(sound_at).collect()
    }

    fn sound_at(&self, tenth: i64, side: Side) -> Option<SideSound> {
        let place = self.points.binary_search_by_key(&tenth, |point| point.tenth).ok()?;
        self.points[place].sides[side.channel()]
    }
}

impl OutlinePoint {
    /// Creates a point with the sound of one side. The point is kept, i.e. not removed after some seconds.
    fn new(tenth: i64, side: Side, sound: SideSound) -> Self {
        let sides = [Side::Caller, Side::Callee].map(|of| (of == side).then_some(sound));
        Self { tenth, sides, is_kept: true }
    }
}

impl SoundSum {
    fn add(&mut self, payload: &[u8], values: Option<&[i16; 256]>) {
        self.packets = self.packets.saturating_add(1);
        let (Some(values), false) = (values, self.samples > MAX_SAMPLES) else { return };
        let mut was_negative = None;
        for code in payload.iter().take(PACKET_SAMPLES) {
            let value = values[usize::from(*code)];
            let is_negative = value < 0;
            self.amplitude += u64::from(value.unsigned_abs());
            self.crossings += u32::from(was_negative.is_some_and(|was| was != is_negative));
            self.samples += 1;
            was_negative = Some(is_negative);
        }
    }

    fn sound(self) -> Option<SideSound> {
        if self.samples == 0 {
            return (self.packets > 0).then_some(SideSound::Unmeasured);
        }
        let mean = self.amplitude as f64 / f64::from(self.samples);
        let db = (20.0 * mean.max(1.0).log10()).round() as u8;
        let crossings = (self.crossings * 255 / self.samples).min(255) as u8;
        Some(SideSound::Measured { db: db.max(LEAST_DB), crossings })
    }
}

impl SideSound {
    /// Returns whether the sound is louder than the noise of a quiet line. Sound that was not measured counts as loud.
    const fn is_loud(self) -> bool {
        match self {
            Self::Unmeasured => true,
            Self::Measured { db, .. } => db >= LOUD_DB,
        }
    }
}

/// Returns the delays, up to [`MAX_LAG`], at which a window of one sound agrees with the other sound: one bit for each
/// delay. Returns `None` if fewer than `least` tenths of a second were measured on both legs, or if too few of them are
/// loud.
fn delays_of_window(
    (window, least): (&[OutlinePoint], usize),
    side: Side,
    other: &SoundOutline,
    other_side: Side,
) -> Option<u16> {
    let (first, last) = (window.first()?.tenth, window.last()?.tenth);
    if last - first > WINDOW as i64 * 3 / 2 {
        return None;
    }
    let others = other.sounds_between([first - MAX_LAG, last + MAX_LAG], other_side);
    let other_at = |tenth: i64| *others.get(usize::try_from(tenth - first + MAX_LAG).ok()?)?;
    let at_lag = |lag: i64| {
        let measured = window.iter().filter_map(|point| {
            let sounds = (point.sides[side.channel()]?, other_at(point.tenth + lag)?);
            match sounds {
                (SideSound::Measured { db: a, crossings: n }, SideSound::Measured { db: b, crossings: m }) => {
                    Some([[f64::from(a), f64::from(n)], [f64::from(b), f64::from(m)]])
                }
                _ => None,
            }
        });
        let measured: Vec<_> = measured.collect();
        if measured.len() >= least { is_same_sound(&measured) } else { None }
    };
    let results = (0_u16..).zip(-MAX_LAG..=MAX_LAG).filter_map(|(bit, lag)| Some(u16::from(at_lag(lag)?) << bit));
    results.reduce(|all, delay| all | delay)
}

/// Returns whether two sounds are the same. Each item of `points` is a tenth of a second, with loudness and zero
/// crossings of both sounds. Returns `None` if there is too little sound.
fn is_same_sound(points: &[[[f64; 2]; 2]]) -> Option<bool> {
    let is_loud = |[[a, _], [b, _]]: &&[[f64; 2]; 2]| a.max(*b) >= f64::from(LOUD_DB);
    if points.iter().filter(is_loud).count() < LEAST_LOUD {
        return None;
    }
    let count = points.len() as f64;
    let mean = |n: usize| points.iter().map(|point| point[n][0]).sum::<f64>() / count;
    let means = [mean(0), mean(1)];
    let product = |n: usize, m: usize| {
        points.iter().map(|point| (point[n][0] - means[n]) * (point[m][0] - means[m])).sum::<f64>() / count
    };
    let deviations = [product(0, 0).sqrt(), product(1, 1).sqrt()];
    let is_varied = deviations.iter().all(|deviation| *deviation >= VARIED_DB);
    if is_varied && product(0, 1) >= LEAST_CORRELATION * deviations[0] * deviations[1] {
        return Some(true);
    }
    // The loudness of a steady sound, e.g. a tone, shows little, so its pitch is compared. The sound must be louder
    // than the noise of a quiet line, which is steady, too.
    let are_loud = |[[a, _], [b, _]]: &&[[f64; 2]; 2]| a.min(*b) >= f64::from(LOUD_DB);
    let is_steady = deviations.iter().all(|deviation| *deviation <= STEADY_DB)
        && points.iter().filter(are_loud).count() >= LEAST_LOUD;
    let difference = |[[_, a], [_, b]]: &[[f64; 2]; 2]| (a - b).abs() / a.max(*b).max(1.0);
    let is_alike = || points.iter().map(difference).sum::<f64>() / count <= MAX_PITCH_DIFFERENCE;
    Some(is_steady && is_alike() && !are_two_tones(points))
}

/// Returns whether two sounds are two tones: each keeps its pitch, and the pitches differ. A machine between two legs
/// does not change the pitch of a tone. Parameter as for [`is_same_sound`].
fn are_two_tones(points: &[[[f64; 2]; 2]]) -> bool {
    let count = points.len() as f64;
    let mean = |n: usize| points.iter().map(|point| point[n][1]).sum::<f64>() / count;
    let means = [mean(0), mean(1)];
    let tolerance = PITCH_STEP + means[0].max(means[1]) * MAX_TONE_DIFFERENCE;
    let variance = |n: usize| points.iter().map(|point| (point[n][1] - means[n]).powi(2)).sum::<f64>() / count;
    (0..2).all(|n| variance(n).sqrt() <= tolerance) && (means[0] - means[1]).abs() > tolerance
}

/// Length of a tenth of a second, ns.
const TENTH_NS: i64 = 100_000_000;
/// Time for which the sound of a leg is measured after an answer. In this time, both parties usually speak.
pub(crate) const LISTEN_TIME: Duration = Duration::from_secs(20);
/// Maximum number of tenths of a second in an outline: [`LISTEN_TIME`] after each of four answers in one call. If an
/// outline is full, a new measurement replaces the oldest.
const MAX_POINTS: usize = 800;
/// Number of points for which a full list of points gets more memory. Doubling its memory would exceed the bound.
const MORE_POINTS: usize = 100;
/// Number of tenths of a second in a window, i.e. in one comparison: 4 s of speech have enough pauses and syllables.
const WINDOW: usize = 40;
/// Minimum number of tenths of a second that must be measured on both legs for a window to be compared. A window of 4 s
/// has 40.
const LEAST_POINTS: usize = 32;
/// Minimum number of tenths of a second at which both legs were measured, if no window reaches [`LEAST_POINTS`]. It
/// allows a short talk of two seconds.
const LEAST_SHORT_POINTS: usize = 20;
/// Minimum number of loud tenths of a second in a window of 4 s. A window with less sound is not compared.
const LEAST_LOUD: usize = 10;
/// Minimum number of windows in which two sounds must differ to count as different. Windows of 4 s overlap by half, so
/// two windows span 6 s.
const LEAST_WINDOWS: usize = 2;
/// Maximum delay of a PBX with its jitter buffers, in tenths of a second.
const MAX_LAG: i64 = 5;
/// Minimum mean amplitude that an outline stores: 30 dB above one step of a 16-bit sample, i.e. 60 dB below full scale.
/// Quieter sound gets this value, because its differences are not audible.
const LEAST_DB: u8 = 30;
/// Minimum mean amplitude of a loud tenth of a second: 42 dB above one step of a 16-bit sample, i.e. 48 dB below full
/// scale. Line noise is quieter.
const LOUD_DB: u8 = 42;
/// Minimum standard deviation of the loudness within a window of four seconds, dB. A steadier loudness cannot be
/// compared.
const VARIED_DB: f64 = 2.0;
/// Maximum standard deviation of the loudness of a steady sound, dB.
const STEADY_DB: f64 = 4.0;
/// Minimum correlation of the loudness of one speech on two legs. Two different speeches reach it in few windows only.
const LEAST_CORRELATION: f64 = 0.8;
/// Maximum mean difference between the numbers of zero crossings (the pitch) of one steady sound on two legs, as a
/// share of the larger number.
const MAX_PITCH_DIFFERENCE: f64 = 0.15;
/// One zero crossing in the measured samples of a packet, in the unit of [`SideSound`]. A tone may have one more or one
/// less if the packets on another leg begin at another place of it.
const PITCH_STEP: f64 = 255.0 / PACKET_SAMPLES as f64;
/// Maximum difference between the numbers of zero crossings of one tone on two legs, beside [`PITCH_STEP`], as a share of
/// the larger number.
const MAX_TONE_DIFFERENCE: f64 = 0.02;
/// Maximum number of samples of a packet that are measured: 10 ms at 8 kHz.
const PACKET_SAMPLES: usize = 80;
/// Maximum number of samples of one side that are measured in a tenth of a second. So a flood of packets costs no more
/// time.
const MAX_SAMPLES: u32 = 1_600;

#[cfg(test)]
mod tests;
