//! The web page of the fake: shows the tasks and their history, and plays recordings.

use std::fmt::Write as _;

use super::state::{CommentKind, FakeState, PyrusTask};

/// Returns the page as HTML that needs no other files.
pub(super) fn render(state: &FakeState) -> String {
    let mut page = String::from(HEAD);
    let requests: u64 = state.requests.values().sum();
    let _ = write!(
        page,
        "<p>{} tasks, {} files, {requests} requests, {} duplicates. As data: <a href=\"/__fake/state\">state</a>, \
         <a href=\"/__fake/log\">requests</a>, <a href=\"/__fake/violations\">violations</a>.</p>",
        state.tasks.len(),
        state.files.len(),
        state.duplicates,
    );
    if state.tasks.is_empty() {
        page.push_str("<p>No call was registered yet.</p>");
    }
    for task in state.tasks.iter().rev().take(MAX_SHOWN) {
        task_section(&mut page, state, task);
    }
    if state.tasks.len() > MAX_SHOWN {
        let _ = write!(page, "<p>Older tasks are only in the <a href=\"/__fake/state\">state</a>.</p>");
    }
    page.push_str("</body></html>\n");
    page
}

/// Returns the content type of a recording by its file name.
pub(super) fn content_type(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    match name.rsplit('.').next() {
        Some("wav") => "audio/wav",
        Some("mp3") => "audio/mpeg",
        Some("ogg") => "audio/ogg",
        _ => "application/octet-stream",
    }
}

fn task_section(page: &mut String, state: &FakeState, task: &PyrusTask) {
    let person = task.responsible.and_then(|id| state.people.iter().find(|p| p.user_id == id));
    let person = person.map_or("nobody".into(), |p| format!("{} {}", p.first_name, p.last_name));
    let _ = write!(
        page,
        "<section><h2>Task {}</h2><p>{} &rarr; {} &middot; responsible: {}{}</p>",
        task.task_id,
        escape(&task.from),
        escape(&task.to),
        escape(&person),
        if task.open { "" } else { " &middot; closed" },
    );
    if !task.fields.is_empty() {
        page.push_str("<table>");
        for (code, value) in &task.fields {
            let _ = write!(page, "<tr><th>{}</th><td>{}</td></tr>", escape(code), escape(value));
        }
        page.push_str("</table>");
    }
    for attachment in task.attachments.iter().take(MAX_SHOWN) {
        let guid = escape(&attachment.guid);
        let size = state.file(&attachment.guid).map_or(0, |f| f.size);
        let _ = write!(
            page,
            "<p><audio controls preload=\"none\" src=\"/__fake/files/{guid}\"></audio> \
             <a download=\"{name}\" href=\"/__fake/files/{guid}\">{name}</a>, {size} bytes</p>",
            name = escape(&attachment.name),
        );
    }
    page.push_str("<ul>");
    for comment in task.comments.iter().take(MAX_SHOWN) {
        let what = match comment.kind {
            CommentKind::Call => "call registered",
            CommentKind::RepeatedCall => "the same call registered again",
            CommentKind::Recording => "recording attached",
        };
        let id = comment.external_id.as_deref().unwrap_or_default();
        let _ = write!(page, "<li>{} {what} <small>{}</small></li>", escape(&comment.at), escape(id));
    }
    page.push_str("</ul></section>");
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}

/// Maximum number of tasks on the page, of comments of a task, and of recordings of a task.
const MAX_SHOWN: usize = 200;
const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Fake Pyrus</title>\
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:50em;margin:2em auto;padding:0 1em;color:#222}\
section{border-top:1px solid #ccc;margin-top:1.5em}h2{margin-bottom:0}th{text-align:left;padding-right:1em;font-weight:500}\
small{color:#777}audio{vertical-align:middle}</style></head><body><h1>Fake Pyrus</h1>";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_pyrus::state::TaskAttachment;

    #[test]
    fn markup_in_a_number_is_escaped() {
        let attachment =
            TaskAttachment { guid: "g".into(), name: "<b>.wav".into(), external_id: None, at: String::new() };
        let task =
            PyrusTask { task_id: 7, from: "<script>".into(), attachments: vec![attachment], ..PyrusTask::default() };
        let page = render(&FakeState { tasks: vec![task], ..FakeState::default() });
        assert!(page.contains("&lt;script&gt;") && page.contains("&lt;b&gt;.wav"));
        assert!(!page.contains("<script>"));
    }
}
