//! HTML of the notes and tags on the page of a call.

use maud::{Markup, html};

use super::super::access::Viewer;
use super::super::accounts::{AccountRight, CallNote, NoteKind};
use super::super::call::CallFacts;
use super::super::query::encoded;
use super::super::text::date_time;
use super::csrf;

/// Returns the notes and tags of a call, and the forms to write them.
pub(super) fn notes(viewer: &Viewer, facts: &CallFacts) -> Markup {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let of_kind = |kind: NoteKind| facts.notes.iter().filter(move |note| note.kind == kind);
    let may_write = viewer.user.may(AccountRight::Notes);
    let id = viewer.call_key(&facts.record);
    html! {
        section.card.stack {
            h2 { (t("Notes and tags", "Заметки и метки")) }
            @if facts.notes.is_empty() { p.muted { (t("None yet.", "Пока нет.")) } }
            @if of_kind(NoteKind::Tag).next().is_some() { p.row { @for tag in of_kind(NoteKind::Tag) {
                span.tag { a href={ "/calls?day=all&q=%23" (encoded(&tag.text)) } { "#" (tag.text) } (removal(viewer, facts, tag)) }
            } } }
            ol.list { @for note in of_kind(NoteKind::Note) { li {
                p.wire { (note.text) }
                p.small.muted { (note.who) ", " (date_time(note.at)) " " (removal(viewer, facts, note)) }
            } } }
            @if may_write {
                form.stack method="post" action={ "/calls/" (id) "/note" } { (csrf(viewer))
                    div.field { label for="note" { (t("Note", "Заметка")) } textarea id="note" name="text" rows="2" maxlength="2000" required {} }
                    p { button { (t("Write", "Записать")) } } }
                form.row method="post" action={ "/calls/" (id) "/tag" } { (csrf(viewer))
                    div.field { label for="tag" { (t("Tag", "Метка")) } input id="tag" type="text" name="text" maxlength="60" required; }
                    button { (t("Add", "Добавить")) } }
            }
        }
    }
}

/// Returns the button that removes a note. Only the note's author and administrators get it.
fn removal(viewer: &Viewer, facts: &CallFacts, note: &CallNote) -> Markup {
    let may_remove = viewer.user.is_admin() || (viewer.user.may(AccountRight::Notes) && viewer.user.name == note.who);
    html! {
        @if may_remove {
            form.inline method="post" action={ "/calls/" (viewer.call_key(&facts.record)) "/unnote" } { (csrf(viewer))
                input type="hidden" name="n" value=(note.n);
                button.plain.small { (viewer.lang.of_two("Remove", "Удалить")) span.vh { " " (note.text) } } }
        }
    }
}
