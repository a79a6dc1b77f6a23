//! Levels (loudness) of calls in progress, which the capture thread measures for the live pages. The thread measures
//! only calls that an open live page shows. If there are more than [`CALLS_PER_ROUND`] of these calls, it measures them
//! in turn.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::call::engine::levels::{CallLevels, VoiceLevel};

/// The newest levels (loudness) of live calls, and the calls that open live pages show.
#[derive(Debug, Default)]
pub(super) struct LevelBoard {
    pages: Mutex<LivePages>,
    turn: Mutex<LevelTurn>,
    newest: Mutex<Arc<LevelsOfCalls>>,
}

/// Levels (loudness) of caller and callee, by the id of the call.
type LevelsOfCalls = HashMap<String, [Option<VoiceLevel>; 2]>;

/// The calls that open live pages show. Only pages lock this value, so the capture thread never waits for a page.
#[derive(Debug, Default)]
struct LivePages {
    /// Ids of the calls that each page shows, by the number of the page.
    calls: HashMap<u64, Vec<String>>,
    /// Number that the next opened live page will get.
    next_page: u64,
}

/// The calls for which the capture thread measures levels (loudness), and the call that it measures next.
#[derive(Debug, Default)]
struct LevelTurn {
    /// Whether a live page is open. If so, the levels (loudness) of its calls must be measured.
    is_wanted: bool,
    /// Ids of the calls that all open live pages show, sorted, without repeats.
    all: Arc<Vec<String>>,
    /// Position in the list `all` (all shown calls) of the call that is measured next.
    next: usize,
}

/// An open live page. The page counts as open until this value is dropped.
#[derive(Debug)]
pub(super) struct LevelListener {
    board: Arc<LevelBoard>,
    page: u64,
}

impl LevelBoard {
    /// Registers an open live page. The page counts as open until the returned value is dropped.
    pub(super) fn listen(board: &Arc<Self>) -> LevelListener {
        let page = board.change_pages(|pages| {
            let page = pages.next_page;
            pages.next_page += 1;
            pages.calls.insert(page, Vec::new());
            page
        });
        LevelListener { board: Arc::clone(board), page }
    }

    /// Applies `change` to the calls that open pages show. Then collects the calls of all pages for the capture thread.
    fn change_pages<T>(&self, change: impl FnOnce(&mut LivePages) -> T) -> T {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut pages);
        let all: BTreeSet<&String> = pages.calls.values().flatten().collect();
        let all = Arc::new(all.into_iter().cloned().collect());
        let mut turn = self.turn();
        (turn.is_wanted, turn.all) = (!pages.calls.is_empty(), all);
        result
    }

    /// Returns whether a live page is open. If so, the levels (loudness) of its calls must be measured.
    pub(super) fn is_wanted(&self) -> bool {
        self.turn().is_wanted
    }

    /// Returns the ids of the calls that are to be measured now, at most [`CALLS_PER_ROUND`]. If the pages show more
    /// calls, the next call of this function returns the ids that follow.
    pub(super) fn next_asked(&self) -> Vec<String> {
        let (all, first) = {
            let mut turn = self.turn();
            let first = if turn.next < turn.all.len() { turn.next } else { 0 };
            turn.next = first + CALLS_PER_ROUND;
            (Arc::clone(&turn.all), first)
        };
        all.iter().skip(first).take(CALLS_PER_ROUND).cloned().collect()
    }

    /// Stores new levels of some calls, and forgets calls that no page shows any more.
    pub(super) fn publish(&self, levels: Vec<CallLevels>) {
        let all = Arc::clone(&self.turn().all);
        let newest = Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner));
        let earlier = newest.iter().filter(|_| all.len() > CALLS_PER_ROUND);
        let earlier = earlier.filter(|(id, _)| all.binary_search(id).is_ok()).map(|(id, sides)| (id.clone(), *sides));
        let levels = earlier.chain(levels.into_iter().map(|call| (call.id, call.sides))).collect();
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(levels);
    }

    fn turn(&self) -> MutexGuard<'_, LevelTurn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LevelListener {
    /// Sets the calls that this live page shows now. Levels are measured only for shown calls.
    pub(super) fn ask(&self, ids: &[String]) {
        let shown = self.board.pages.lock().unwrap_or_else(PoisonError::into_inner).calls.get(&self.page).cloned();
        if shown.as_deref() != Some(ids) {
            self.board.change_pages(|pages| pages.calls.insert(self.page, ids.to_vec()));
        }
    }

    /// Returns the levels of these calls as JSON, e.g. `{"ID":[72,null]}` with the values of caller and callee. A value
    /// is the level in per cent, -1 for packets of an unknown level, or null without packets.
    pub(super) fn json(&self, ids: &[String]) -> String {
        let newest = Arc::clone(&self.board.newest.lock().unwrap_or_else(PoisonError::into_inner));
        let number = |level: Option<VoiceLevel>| match level {
            Some(VoiceLevel::Percent(percent)) => serde_json::json!(percent),
            Some(VoiceLevel::Unmeasured) => serde_json::json!(-1),
            None => serde_json::Value::Null,
        };
        let call = |id: &String| {
            let sides = newest.get(id).copied().unwrap_or_default();
            (id.clone(), serde_json::Value::from(sides.map(number).to_vec()))
        };
        serde_json::Value::Object(ids.iter().map(call).collect()).to_string()
    }
}

impl Drop for LevelListener {
    fn drop(&mut self) {
        self.board.change_pages(|pages| pages.calls.remove(&self.page));
    }
}

/// Maximum number of calls that the capture thread measures at a time. It measures four times a second. So even if all
/// open pages together show 2,000 calls, each call is measured once a second.
const CALLS_PER_ROUND: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_wanted_while_a_page_listens_and_only_of_its_calls() {
        let board = Arc::default();
        assert!(!LevelBoard::is_wanted(&board));
        let page = LevelBoard::listen(&board);
        let other = LevelBoard::listen(&board);
        page.ask(&[String::from("b"), String::from("a"), String::from("new")]);
        other.ask(&[String::from("c"), String::from("a")]);
        assert_eq!(board.next_asked(), ["a", "b", "c", "new"]);
        drop(other);
        assert!(board.is_wanted());
        assert_eq!(board.next_asked(), ["a", "b", "new"]);
        let sides = |a, b| [a, b];
        let levels = |id: &str, sides| CallLevels { id: id.to_owned(), sides };
        board.publish(vec![
            levels("a", sides(Some(VoiceLevel::Percent(72)), None)),
            levels("b", sides(Some(VoiceLevel::Unmeasured), Some(VoiceLevel::Percent(1)))),
            levels("foreign", sides(None, None)),
        ]);
        let json = page.json(&[String::from("a"), String::from("b"), String::from("new")]);
        assert_eq!(json, r#"{"a":[72,null],"b":[-1,1],"new":[null,null]}"#);
        drop(page);
        assert!(!board.is_wanted());
        assert!(board.next_asked().is_empty());
    }

    #[test]
    fn many_calls_get_their_level_in_turn() {
        let board = Arc::default();
        let pages: Vec<LevelListener> = (0..6).map(|_| LevelBoard::listen(&board)).collect();
        for (n, page) in pages.iter().enumerate() {
            page.ask(&(0..200).map(|call| format!("{n}-{call:03}")).collect::<Vec<_>>());
        }
        let sides = [Some(VoiceLevel::Percent(50)), None];
        let mut rounds = Vec::new();
        for _ in 0..4 {
            let asked = LevelBoard::next_asked(&board);
            rounds.push(asked.len());
            board.publish(asked.into_iter().map(|id| CallLevels { id, sides }).collect());
        }
        assert_eq!(rounds, [500, 500, 200, 500], "1,200 calls, at most 500 in a round");
        let all: Vec<String> = board.newest.lock().unwrap().keys().cloned().collect();
        assert_eq!(all.len(), 1_200, "calls of an earlier round keep their level");
        drop(pages);
        board.publish(Vec::new());
        assert!(board.newest.lock().unwrap().is_empty());
    }
}
