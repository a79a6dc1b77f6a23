//! Threads that run until they are stopped.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::supervision::TickCounter;

/// A running thread, and the sender that stops the thread when it is dropped.
#[derive(Debug)]
pub(crate) struct StoppableThread<S = Sender<()>> {
    stop: S,
    thread: JoinHandle<()>,
    ticks: TickCounter,
}

/// The end of the stop channel inside the thread.
#[derive(Debug)]
pub(crate) struct StopSignal {
    stopped: Receiver<()>,
    ticks: TickCounter,
}

impl StopSignal {
    /// Waits for `pause`, and counts a round. Returns true as soon as the thread must stop.
    pub(crate) fn is_stopped_within(&self, pause: Duration) -> bool {
        self.ticks.tick();
        self.stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout)
    }
}

impl StoppableThread {
    /// Starts a thread whose work checks a [`StopSignal`].
    ///
    /// # Errors
    /// Fails if the operating system cannot start the thread.
    pub(crate) fn start(name: &str, work: impl FnOnce(&StopSignal) + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let ticks = TickCounter::default();
        let signal = StopSignal { stopped, ticks: ticks.clone() };
        Ok(Self { ticks, ..Self::start_with(name, stop, move || work(&signal))? })
    }
}

impl<S> StoppableThread<S> {
    /// Starts a thread that ends by itself once `stop` is dropped.
    ///
    /// # Errors
    /// Fails if the operating system cannot start the thread.
    pub(crate) fn start_with(name: &str, stop: S, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { stop, thread, ticks: TickCounter::default() })
    }

    /// Returns the count of the thread's rounds: its calls of [`StopSignal::is_stopped_within`].
    pub(crate) fn ticks(&self) -> TickCounter {
        self.ticks.clone()
    }

    /// Returns true if the thread has ended although it was not stopped.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops the thread and waits for its end, for `limit` at most. A thread that works on a large file continues until
    /// the process ends.
    pub(crate) fn stop_within(self, limit: Duration) {
        drop(self.stop);
        join_within(vec![self.thread], limit);
    }

    /// Stops the thread and waits for its end.
    pub(crate) fn stop(self) {
        drop(self.stop);
        let _ = self.thread.join(); // a panic in the thread was reported when it happened
    }
}

/// Waits until all threads have ended, for `limit` at most. Returns true if all have ended.
#[expect(clippy::disallowed_methods, reason = "an IO module: the end of the program is waited for")]
pub(crate) fn join_within(threads: Vec<JoinHandle<()>>, limit: Duration) -> bool {
    let begin = std::time::Instant::now();
    while threads.iter().any(|thread| !thread.is_finished()) {
        if begin.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(END_CHECK);
    }
    for thread in threads {
        let _ = thread.join(); // a panic in the thread was reported when it happened
    }
    true
}

/// Interval at which the end of a thread is checked.
const END_CHECK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_waits_for_the_last_round() {
        let (rounds, seen) = crossbeam_channel::unbounded();
        let thread = StoppableThread::start("test", move |stop| {
            loop {
                let is_last = stop.is_stopped_within(Duration::from_secs(3600));
                let _ = rounds.send(is_last);
                if is_last {
                    return;
                }
            }
        });
        let thread = thread.expect("a thread");
        assert!(!thread.is_finished());
        thread.stop();
        assert_eq!(seen.iter().collect::<Vec<_>>(), [true]);
    }
}
