//! Levels of live calls, from the capture thread to the live pages. The capture thread measures levels only while a
//! live page is open.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::call::engine::levels::{CallLevels, VoiceLevel};

/// The newest levels (loudness) of live calls, and the number of open live pages.
#[derive(Debug, Default)]
pub(super) struct LevelBoard {
    listeners: AtomicUsize,
    newest: Mutex<Arc<LevelsOfCalls>>,
}

/// Levels of both sides by the id of the call.
type LevelsOfCalls = HashMap<String, [Option<VoiceLevel>; 2]>;

/// An open live page. The page counts as open until this value is dropped.
#[derive(Debug)]
pub(super) struct LevelListener(Arc<LevelBoard>);

impl LevelBoard {
    /// Registers a live page, which counts as open until the returned value is dropped.
    pub(super) fn listen(board: &Arc<Self>) -> LevelListener {
        board.listeners.fetch_add(1, Ordering::Relaxed);
        LevelListener(Arc::clone(board))
    }

    /// Returns whether a live page is open, so that levels must be measured.
    pub(super) fn is_wanted(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) > 0
    }

    /// Replaces the levels by newer ones, measured by the capture thread.
    pub(super) fn publish(&self, levels: Vec<CallLevels>) {
        let levels = levels.into_iter().map(|call| (call.id, call.sides)).collect();
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(levels);
    }
}

impl LevelListener {
    /// Returns the levels of these calls as JSON: `{"ID":[72,null]}`, caller and callee. A number is the level in per
    /// cent; -1 means packets without a known level, and null means no packets.
    pub(super) fn json(&self, ids: &[String]) -> String {
        let newest = Arc::clone(&self.0.newest.lock().unwrap_or_else(PoisonError::into_inner));
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
        self.0.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_wanted_while_a_page_listens_and_only_of_its_calls() {
        let board = Arc::default();
        assert!(!LevelBoard::is_wanted(&board));
        let page = LevelBoard::listen(&board);
        let other = LevelBoard::listen(&board);
        drop(other);
        assert!(board.is_wanted());
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
    }
}
