//! HTML of the response to a refused request, e.g. if the journal does not answer.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::html;

use super::super::access::Viewer;
use super::{NavEntry, shell};

/// The reason why a request was refused. It is stored in the extensions (`http::Extensions`) of the response. The API
/// gives the reason as JSON.
#[derive(Clone, Debug)]
pub(in super::super) struct RefusalReason(pub(in super::super) String);

/// Returns whether a browser asks for a page, so that a person will read the response.
pub(in super::super) fn is_for_a_person(path: &str, headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    !path.starts_with("/api/") && accept.contains("text/html")
}

/// Returns the page of a refused request, with a link to the calls.
pub(in super::super) fn response(viewer: &Viewer, status: StatusCode, reason: &RefusalReason) -> Response {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let known = REASONS.iter().find(|(english, _)| *english == reason.0);
    let russian = known.map(|(_, russian)| *russian);
    let text = t(reason.0.as_str(), russian.unwrap_or(reason.0.as_str()));
    let mut letters = text.chars();
    let sentence: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    let lang = if russian.is_some() { viewer.lang.code() } else { "en" };
    let body = html! {
        section.card.empty {
            h1 lang=(lang) { (sentence) "." }
            p { a.btn href="/calls" { (t("To the calls", "К звонкам")) } }
        }
    };
    (status, shell(viewer, t("Not done", "Не выполнено"), NavEntry::Other, &[], &body)).into_response()
}

/// Reasons of refused requests that a person can meet, in English and in Russian.
const REASONS: [(&str, &str); 21] = [
    ("the archive of all sites does not answer; recording goes on", "архив всех площадок не отвечает; запись идёт"),
    ("the journal does not answer; recording goes on", "журнал не отвечает; запись идёт"),
    ("the page is too old: open it again", "страница устарела: откройте её снова"),
    ("the request is too large", "запрос слишком велик"),
    ("the request came too slowly", "запрос пришёл слишком медленно"),
    (
        "the console does not answer under this address: use its own address, or set console.public_url",
        "консоль не отвечает по этому адресу: используйте её собственный адрес или задайте console.public_url",
    ),
    ("not found, or outside the scope of this account", "не найдено или вне прав этой учётной записи"),
    ("the account may not make this change", "этой учётной записи такое изменение не разрешено"),
    ("the account may not download", "этой учётной записи не разрешено скачивать"),
    ("the account does not see the audit", "эта учётная запись не видит, кто слушал"),
    ("the audit cannot be written", "строку о прослушивании не удалось записать"),
    ("other recordings are being converted: try again later", "сейчас преобразуются другие записи: попробуйте позже"),
    ("the recording cannot be converted now", "сейчас запись нельзя преобразовать"),
    ("this recording cannot be converted here", "эту запись нельзя преобразовать здесь"),
    ("the doctor is at work: wait half a minute", "проверка зеркала уже идёт: подождите полминуты"),
    (
        "the doctor or another test call is at work: wait half a minute",
        "проверка зеркала или другой проверочный звонок уже идёт: подождите полминуты",
    ),
    ("the program does not know its own path", "программа не знает своего пути"),
    ("the program does not know its own path or configuration", "программа не знает своего пути или конфигурации"),
    ("the note is empty", "заметка пуста"),
    ("the call has as many notes as a call may have", "у звонка уже предельное число заметок"),
    ("this machine has no such network card", "на этой машине нет такой сетевой карты"),
];
