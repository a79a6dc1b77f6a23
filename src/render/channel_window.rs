//! One channel of the mix buffer's window: its samples, and for each sample the stream that wrote it.
//!
//! Nearly always one stream writes, each packet directly behind the packet before. Then the stream is *alone*: only the
//! spans that it wrote are stored, and nothing is compared. Any other write gives the window a rank for each sample.

use std::collections::VecDeque;

/// One channel of the window. Indices count samples from its front, i.e. from the first sample that was not removed.
#[derive(Clone, Debug)]
pub(super) struct ChannelWindow {
    samples: Vec<i16>,
    /// The only stream in the window; `None` once several streams have written.
    lone: Option<LoneStream>,
    /// For each sample the rank of the stream that wrote it, 0 if none did. Empty while one stream is alone.
    ranks: Vec<u16>,
    /// Silence that another stream's sound replaced. It is kept until it is known whether that stream continues to
    /// sound.
    withheld: Vec<WithheldSilence>,
    /// Number of removed samples that are still in `samples`. They are dropped when they are the larger part, so that a
    /// sample is moved at most once.
    flushed: usize,
    /// Number of samples that have been dropped from `samples` since the start.
    dropped: usize,
}

/// The stream that is alone in a window, with the spans that it wrote. Spans are counted in samples from the first
/// sample that the window ever had.
#[derive(Clone, Debug, Default)]
struct LoneStream {
    rank: u16,
    /// Start and end of each span, in order, without overlaps.
    spans: VecDeque<(usize, usize)>,
}

impl LoneStream {
    /// Adds a span. Returns whether it lies behind all others and belongs to the same stream.
    fn add(&mut self, rank: u16, (from, to): (usize, usize)) -> bool {
        match self.spans.back_mut() {
            Some((_, end)) if self.rank == rank && *end == from => *end = to,
            Some((_, end)) if self.rank != rank || *end > from => return false,
            _ => {
                self.rank = rank;
                self.spans.push_back((from, to));
            }
        }
        true
    }

    /// Forgets the spans that end before a sample.
    fn forget_before(&mut self, sample: usize) {
        while self.spans.front().is_some_and(|(_, end)| *end <= sample) {
            self.spans.pop_front();
        }
    }

    /// Returns the rank of each of `count` samples from sample `from` on; 0 if no stream wrote it.
    fn ranks(&self, from: usize, count: usize) -> Vec<u16> {
        let mut ranks = vec![0; count];
        for (begin, end) in &self.spans {
            ranks[begin.saturating_sub(from)..end - from].fill(self.rank);
        }
        ranks
    }
}

/// Digital silence of a stream while another stream of the same side sounded.
#[derive(Clone, Debug)]
struct WithheldSilence {
    /// Position of the first silent sample in the recording.
    at: i64,
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
    /// Returns an empty window that has a rank for each sample from the beginning.
    #[cfg(test)]
    pub(super) fn with_ranks() -> Self {
        Self { lone: None, ..Self::default() }
    }

    /// Writes samples from index `first` on, if no other stream is in the window and nothing was written behind
    /// `first`. Returns whether it wrote.
    pub(super) fn append_alone(&mut self, first: usize, rank: u16, samples: &[i16]) -> bool {
        let Some(lone) = &mut self.lone else { return false };
        let first = self.flushed + first;
        if !lone.add(rank, (self.dropped + first, self.dropped + first + samples.len())) {
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

    /// Stores silence until it is decided. If more than [`MAX_WITHHELD`] pieces are stored, the silence is dropped, and
    /// the other sound stays.
    pub(super) fn withhold(&mut self, at: i64, rank: u16, samples: &[i16]) {
        if self.withheld.len() < MAX_WITHHELD {
            self.withheld.push(WithheldSilence { at, rank, samples: samples.to_vec() });
        }
    }

    /// Writes the stored silence that begins before a position, unless another stream continues to sound after it.
    /// `base` is the position of the window's front.
    pub(super) fn settle_silence(&mut self, base: i64, position: i64, talks_on: usize) {
        if self.withheld.is_empty() {
            return;
        }
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.withheld).into_iter().partition(|silence| silence.at < position);
        self.withheld = rest;
        for WithheldSilence { at, rank, samples } in due {
            let skip = usize::try_from(base - at).unwrap_or(0).min(samples.len());
            let samples = &samples[skip..];
            let first = usize::try_from(at - base).unwrap_or(0);
            let last = first + samples.len();
            let (window, ranks) = self.grow_with_ranks(last + talks_on);
            if ranks[last..].iter().any(|&owner| owner != 0 && owner != rank) {
                continue;
            }
            let window = window[first..last].iter_mut().zip(&mut ranks[first..last]);
            for ((slot, owner), &sample) in window.zip(samples).filter(|((_, owner), _)| **owner != rank) {
                (*slot, *owner) = (sample, rank);
            }
        }
    }

    /// Returns the samples of the window up to index `end`. The window grows if needed.
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

    /// Returns samples and ranks of the window up to index `end`. From now on every sample has a rank.
    pub(super) fn grow_with_ranks(&mut self, end: usize) -> (&mut [i16], &mut [u16]) {
        self.grow_to(end);
        if let Some(lone) = self.lone.take() {
            self.ranks = lone.ranks(self.dropped, self.samples.len());
        }
        let range = self.flushed..self.flushed + end;
        (&mut self.samples[range.clone()], &mut self.ranks[range])
    }

    /// Adds the first samples of this window to `samples`, which belong to another window, and removes them here. Does
    /// nothing if nothing was written to this window.
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
        // After a pause longer than the window, a stream is alone again.
        if self.samples.is_empty() && self.withheld.is_empty() {
            self.lone.get_or_insert_default();
        }
    }
}

/// Maximum number of pieces of silence that a channel stores: one for each packet of 10 ms over the longest window, for
/// three streams.
const MAX_WITHHELD: usize = 4_800;
