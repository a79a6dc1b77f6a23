//! One channel of the mix buffer's window: its samples, and which stream wrote each sample.
//!
//! Nearly always only one stream writes, packet directly after packet. Then only the ranges that it wrote are stored,
//! and nothing is compared. As soon as another stream writes, or the same stream writes backwards, the window stores a
//! rank for each sample.

use std::collections::VecDeque;

use super::mix_buffer::{MixTarget, number_of};
use super::sample_index::SampleIndex;

/// The window over one channel: its samples that were written and not removed yet. Index 0 is the first of these
/// samples.
#[derive(Clone, Debug)]
pub(super) struct ChannelWindow {
    samples: Vec<i16>,
    /// The only stream in the window; `None` once several streams have written.
    lone: Option<LoneStream>,
    /// Rank (precedence) of the stream that wrote each sample, 0 if no stream did. Empty while only one stream has
    /// written.
    ranks: Vec<u16>,
    /// Pieces of digital silence that are neither written nor dropped yet, because another stream of the channel sounds
    /// at the same time. If that stream stops, the silence is written.
    withheld: Vec<WithheldSilence>,
    /// Number of removed samples that are still at the front of `samples`. They are dropped once they are more than
    /// half of `samples`, so that a sample is moved at most once.
    flushed: usize,
    /// Number of samples that have been dropped from `samples` since the window was created.
    dropped: usize,
}

/// The only stream that has written to the window, with the ranges that it wrote.
#[derive(Clone, Debug, Default)]
struct LoneStream {
    /// Number of the stream; 0 before its first sample.
    number: u16,
    /// The written ranges, in order and without overlaps.
    spans: VecDeque<LoneSpan>,
}

/// A range that a lone stream wrote, e.g. its voice or its comfort noise. The bounds are sample numbers; number 0 is the
/// first sample that the window ever had.
#[derive(Clone, Copy, Debug)]
struct LoneSpan {
    from: usize,
    /// Sample number after the last sample.
    end: usize,
    rank: u16,
}

impl LoneStream {
    /// Records that a stream wrote a range of samples. Returns false and records nothing in two cases: another stream
    /// wrote before, or the range begins before the end of the last range.
    fn add(&mut self, number: u16, span: LoneSpan) -> bool {
        match self.spans.back_mut() {
            Some(last) if self.number != number || last.end > span.from => return false,
            Some(last) if last.end == span.from && last.rank == span.rank => last.end = span.end,
            _ => {
                self.number = number;
                self.spans.push_back(span);
            }
        }
        true
    }

    /// Removes the written ranges that end before a sample.
    fn forget_before(&mut self, sample: usize) {
        while self.spans.front().is_some_and(|span| span.end <= sample) {
            self.spans.pop_front();
        }
    }

    /// Returns the ranks (precedence) of `count` samples from sample `from` on. The rank of a sample that no stream wrote
    /// is 0.
    fn ranks(&self, from: usize, count: usize) -> Vec<u16> {
        let mut ranks = vec![0; count];
        for span in &self.spans {
            ranks[span.from.saturating_sub(from)..span.end - from].fill(span.rank);
        }
        ranks
    }
}

/// Digital silence that a stream sent while another stream of the same channel sounded.
#[derive(Clone, Debug)]
struct WithheldSilence {
    /// Position in the recording of the first silent sample.
    at: SampleIndex,
    rank: u16,
    samples: Vec<i16>,
}

impl Default for ChannelWindow {
    fn default() -> Self {
        let (samples, ranks, withheld) = (Vec::new(), Vec::new(), Vec::new());
        Self { samples, lone: Some(LoneStream::default()), ranks, withheld, flushed: 0, dropped: 0 }
    }
}

impl ChannelWindow {
    /// Returns an empty window that stores the rank (precedence) of the writing stream for every sample, even while
    /// there is only one stream.
    #[cfg(test)]
    pub(super) fn with_ranks() -> Self {
        Self { lone: None, ..Self::default() }
    }

    /// Writes samples from index `first` on, if no other stream is in the window and nothing was written after `first`.
    /// Otherwise writes nothing and returns false.
    pub(super) fn append_alone(&mut self, first: usize, target: MixTarget, samples: &[i16]) -> bool {
        let Some(lone) = &mut self.lone else { return false };
        let first = self.flushed + first;
        let from = self.dropped + first;
        if !lone.add(target.number, LoneSpan { from, end: from + samples.len(), rank: target.rank() }) {
            return false;
        }
        if self.samples.len() <= first {
            self.samples.resize(first, 0);
            self.samples.extend_from_slice(samples);
        } else {
            let end = first + samples.len();
            self.samples.resize(self.samples.len().max(end), 0);
            self.samples[first..end].copy_from_slice(samples);
        }
        true
    }

    /// Stores digital silence of a stream until [`Self::settle_silence`] writes or drops it. If [`MAX_WITHHELD`] pieces
    /// of silence are already stored, drops this piece at once, so that the sound of the other stream stays.
    pub(super) fn withhold(&mut self, at: SampleIndex, rank: u16, samples: &[i16]) {
        if self.withheld.len() < MAX_WITHHELD {
            self.withheld.push(WithheldSilence { at, rank, samples: samples.to_vec() });
        }
    }

    /// Writes or drops the stored silence that begins before `position`. A piece of silence is dropped if another
    /// stream sounds within `talks_on` samples after it. `base` is the position of sample 0 of the window.
    pub(super) fn settle_silence(&mut self, base: SampleIndex, position: SampleIndex, talks_on: usize) {
        if self.withheld.is_empty() {
            return;
        }
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.withheld).into_iter().partition(|silence| silence.at < position);
        self.withheld = rest;
        for WithheldSilence { at, rank, samples } in due {
            let skip = usize::try_from(base.0 - at.0).unwrap_or(0).min(samples.len());
            let samples = &samples[skip..];
            let first = usize::try_from(at.0 - base.0).unwrap_or(0);
            let last = first + samples.len();
            let (window, ranks) = self.grow_with_ranks(last + talks_on);
            if ranks[last..].iter().any(|&owner| owner != 0 && number_of(owner) != number_of(rank)) {
                continue;
            }
            let window = window[first..last].iter_mut().zip(&mut ranks[first..last]);
            for ((slot, owner), &sample) in window.zip(samples).filter(|((_, owner), _)| **owner != rank) {
                (*slot, *owner) = (sample, rank);
            }
        }
    }

    /// Returns the samples of the window (samples that were not output yet) before index `end`. The window grows if
    /// needed.
    pub(super) fn grow_to(&mut self, end: usize) -> &mut [i16] {
        let end = self.flushed + end;
        if self.samples.len() < end {
            self.samples.resize(end, 0);
            if self.lone.is_none() {
                self.ranks.resize(end, 0);
            }
        }
        &mut self.samples[self.flushed..end]
    }

    /// Returns the samples of the window before index `end`, and for each sample the rank (precedence) of the stream
    /// that wrote it. From now on the window stores a rank for each sample.
    pub(super) fn grow_with_ranks(&mut self, end: usize) -> (&mut [i16], &mut [u16]) {
        self.grow_to(end);
        if let Some(lone) = self.lone.take() {
            self.ranks = lone.ranks(self.dropped, self.samples.len());
        }
        let range = self.flushed..self.flushed + end;
        (&mut self.samples[range.clone()], &mut self.ranks[range])
    }

    /// Mixes the first samples of this window into `samples`, which are a part of another window, and removes them from
    /// this window. Does nothing if no stream wrote to this window.
    pub(super) fn move_front_into(&mut self, samples: &mut [i16]) {
        if self.samples.is_empty() {
            return;
        }
        let count = samples.len();
        for (sample, other) in samples.iter_mut().zip(self.grow_to(count)) {
            *sample = sample.saturating_add(*other);
        }
        self.remove_front(count);
    }

    /// Removes `count` samples at the front, which must be in the window.
    pub(super) fn remove_front(&mut self, count: usize) {
        self.flushed += count;
        if let Some(lone) = &mut self.lone {
            lone.forget_before(self.dropped + self.flushed);
        }
        if self.flushed * 2 < self.samples.len() {
            return;
        }
        self.samples.drain(..self.flushed);
        if self.lone.is_none() {
            self.ranks.drain(..self.flushed);
        }
        self.dropped += self.flushed;
        self.flushed = 0;
        // After a long pause, all samples of the window were output, so it is empty. Then the next stream is again the
        // only stream in it.
        if self.samples.is_empty() && self.withheld.is_empty() {
            self.lone.get_or_insert_default();
        }
    }
}

/// Maximum number of pieces of digital silence that a channel stores. It suffices for three streams with packets of 10
/// ms over the longest window (16 s).
const MAX_WITHHELD: usize = 4_800;
