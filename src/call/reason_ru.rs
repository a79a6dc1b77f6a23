//! Verdict reasons in Russian.
//!
//! The English sentence is the key, as with gettext: a record keeps one sentence, and it is translated where it is shown. `{}`
//! stands for a value. A value that is itself a phrase is translated, too.
//!
//! # Invariant
//! Every sentence in the modules that write reasons has a translation; a test reads their sources.

/// Returns the reason of a verdict in Russian; `None` if a sentence is unknown, e.g. from another version.
pub(crate) fn russian_reason(reason: &str) -> Option<String> {
    let mut rest = reason.get(..MAX_REASON).unwrap_or(reason).trim();
    let mut sentences = Vec::new();
    while !rest.is_empty() {
        let found = SENTENCES.iter().find_map(|(english, russian)| {
            let (values, length) = prefix(english, rest)?;
            Some((filled(russian, &values), length))
        });
        let (sentence, length) = found?;
        sentences.push(sentence);
        rest = rest[length..].trim_start();
    }
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

/// Returns the values of a template at the beginning of a text, and the length of the matched text. The sentence must
/// end there: the text ends, or another sentence begins.
fn prefix<'t>(template: &str, text: &'t str) -> Option<(Vec<&'t str>, usize)> {
    let mut literals = template.split("{}");
    let first = literals.next().unwrap_or_default();
    let mut at = text.starts_with(first).then_some(first.len())?;
    let literals: Vec<&str> = literals.collect();
    let mut values = Vec::new();
    for (n, literal) in literals.iter().enumerate() {
        let is_last = n + 1 == literals.len();
        let ends = |end: usize| !is_last || is_end(text, end + literal.len());
        let end = if literal.is_empty() { Some(text.len()) } else { find_where(text, at, literal, ends) }?;
        values.push(&text[at..end]);
        at = end + literal.len();
    }
    is_end(text, at).then_some((values, at))
}

fn find_where(text: &str, from: usize, literal: &str, accepts: impl Fn(usize) -> bool) -> Option<usize> {
    let rest = text.get(from..)?;
    rest.match_indices(literal).map(|(at, _)| from + at).find(|at| accepts(*at))
}

fn is_end(text: &str, at: usize) -> bool {
    let Some(rest) = text.get(at..) else { return false };
    rest.is_empty() || rest.strip_prefix(' ').is_some_and(|next| next.starts_with(char::is_uppercase))
}

/// Fills values into a template. A value that is a phrase is translated first.
fn filled(russian: &str, values: &[&str]) -> String {
    let mut literals = russian.split("{}");
    let mut out = literals.next().unwrap_or_default().to_owned();
    for (value, literal) in values.iter().zip(literals) {
        out.push_str(&phrase(value));
        out.push_str(literal);
    }
    out
}

fn phrase(value: &str) -> String {
    let found = PHRASES.iter().find_map(|(english, russian)| {
        let (values, length) = prefix(english, value)?;
        (length == value.len()).then(|| filled(russian, &values))
    });
    found.unwrap_or_else(|| value.to_owned())
}

/// Longest reason that is translated, bytes. The program's own reasons are shorter.
const MAX_REASON: usize = 2_000;

/// Sentences that stand alone.
const SENTENCES: &[(&str, &str)] = &[
    // recording::verdict
    ("Both sides can be heard.", "Слышны обе стороны."),
    (
        "Packets of both sides came, but the {}'s are silent throughout (one-way audio): check that telephone.",
        "Пакеты обеих сторон пришли, но у {} в них только тишина (односторонний звук): проверьте этот телефон.",
    ),
    ("Only the caller can be heard.", "Слышен только звонивший."),
    ("Only the callee can be heard.", "Слышен только ответивший."),
    (
        "The call is a fax: one side offered T.38, the other refused it, and the sound is that of the machines.",
        "Это факс: одна сторона предложила T.38, другая отказалась, и слышны звуки аппаратов.",
    ),
    ("The call is a fax or a modem: its answering tone was heard.", "Это факс или модем: был слышен тон ответа."),
    ("Only the caller can be heard: {}.", "Слышен только звонивший: {}."),
    ("Only the callee can be heard: {}.", "Слышен только ответивший: {}."),
    ("Nobody answered the call, so there is nothing to record.", "На звонок никто не ответил, записывать нечего."),
    ("The media is encrypted: {}.", "Звук зашифрован: {}."),
    ("There is no decoder for {}.", "Нет декодера: {}."),
    ("The call was heard, but the recording failed: {}.", "Звонок был слышен, но запись не удалась: {}."),
    ("No sound of the call could be kept: {}.", "Звук звонка сохранить не удалось: {}."),
    ("The call became a fax (T.38), which has no sound.", "Звонок стал факсом (T.38), в нём нет звука."),
    ("The call is a fax (T.38), which has no sound.", "Это факс (T.38), в нём нет звука."),
    (
        "The capture cut the media packets short: raise its snap length.",
        "Захват обрезал пакеты звука: увеличьте длину захвата (snap length).",
    ),
    (
        "No media packet could be decoded: their contents do not fit the codec that was agreed.",
        "Ни один пакет звука не декодируется: содержимое не подходит к согласованному кодеку.",
    ),
    (
        "Media packets came, but they contain digital silence throughout: check the telephones.",
        "Пакеты звука пришли, но в них только цифровая тишина: проверьте телефоны.",
    ),
    (
        "Hardly any media packet of the call came or could be decoded.",
        "Пакетов звука почти не пришло, или они не декодируются.",
    ),
    (
        "All media of the call was deliberately not kept (recording was paused).",
        "Звук намеренно не сохранён: запись была приостановлена.",
    ),
    (
        "The mirror showed telephone-events (DTMF) within the recorded part of the call, but no audio.",
        "В записываемой части звонка зеркало показало только нажатия клавиш (DTMF), без звука.",
    ),
    (
        "The mirror showed media, but none within the recorded part of the call.",
        "Зеркало показало звук, но не в записываемой части звонка.",
    ),
    (
        "The mirror showed media between the hosts of the call, but on addresses that a NAT changed: mirror the other side of the NAT.",
        "Зеркало показало звук между машинами звонка, но адреса изменил NAT: зеркалируйте другую сторону NAT.",
    ),
    (
        "The call began before the capture, and no media of it was seen.",
        "Звонок начался до захвата, и его звука не было видно.",
    ),
    (
        "The mirror showed the signalling but no media of the call: check that it sees the media path.",
        "Зеркало показало сигнализацию, но не звук звонка: проверьте, что оно видит путь звука.",
    ),
    // call::conversation
    (
        "Rule {} of the configuration forbids to record this call.",
        "Правило {} конфигурации запрещает записывать этот звонок.",
    ),
    ("Media that had been kept until then was deleted.", "Сохранённый до того звук удалён."),
    (
        "The recorder was restarted during the call; none of its audio was in the spool.",
        "Регистратор перезапускался во время звонка; его звука в буфере не было.",
    ),
    (
        "The recorder was restarted during the call; the audio after its finished parts was not in the spool.",
        "Регистратор перезапускался во время звонка; звука после готовых частей в буфере не было.",
    ),
    (
        "The recorder was restarted while the call was being set up; its outcome was not seen.",
        "Регистратор перезапускался, когда звонок устанавливался; его исход не был виден.",
    ),
    (
        "The recorder was restarted during the call, and what it had recorded before was not in the spool.",
        "Регистратор перезапускался во время звонка, и записанного до того в буфере не было.",
    ),
    (
        "The call began before the capture; only its end was seen, and no media.",
        "Звонок начался до захвата; виден только его конец, без звука.",
    ),
    (
        "The mirror did not show the answer; the time of the ACK is used instead.",
        "Зеркало не показало ответ; вместо него взято время ACK.",
    ),
    (
        "The mirror did not show the answer; the time of the first RTP packet is used instead.",
        "Зеркало не показало ответ; вместо него взято время первого пакета RTP.",
    ),
    (
        "Call {} ended because nobody was heard for calls.silence_s; this call is its continuation.",
        "Звонок {} закончен, потому что дольше calls.silence_s никого не было слышно; этот звонок — его продолжение.",
    ),
    (
        "The sound comes from another leg of the call: the mirror showed no media on the outside party's leg.",
        "Звук взят с другого плеча звонка: на плече внешнего абонента зеркало звука не показало.",
    ),
    (
        "The call began before the capture; it is recorded from the moment it was first seen.",
        "Звонок начался до захвата; он записан с того момента, когда стал виден.",
    ),
    (
        "The direction is unknown: the left channel is the side that was seen to act first.",
        "Направление неизвестно: в левом канале сторона, которая действовала первой.",
    ),
    ("The caller hung up before anybody answered.", "Звонивший положил трубку, не дождавшись ответа."),
    ("The called party was busy{}.", "Номер был занят{}."),
    ("The called party declined the call{}.", "Вызываемый отклонил звонок{}."),
    ("Nobody answered{}.", "Никто не ответил{}."),
    ("The call was redirected elsewhere{}.", "Звонок перенаправлен{}."),
    ("The call failed before it was answered{}.", "Звонок не состоялся{}."),
    ("The capture ended before the call was answered.", "Захват закончился до ответа на звонок."),
    ("No final answer to the INVITE was seen.", "Окончательного ответа на INVITE не было видно."),
    // recording::recorder, service
    (
        "The sound is that of another leg of the call: the outside party's own cannot be decoded.",
        "Звук взят с другого плеча звонка: звук плеча внешнего абонента не декодируется.",
    ),
    (
        "The sound is that of another leg of the call: on the first, the mirror showed little or nothing of one side.",
        "Звук взят с другого плеча звонка: на первом зеркало почти или совсем не показало одну сторону.",
    ),
    (
        "The sound of {} is that of another leg, which was the outside party's when it was made.",
        "Звук ({}) взят с другого плеча: тогда оно было плечом внешнего абонента.",
    ),
    (
        "The call could not be rendered because of a bug in callspan ({}); its packets are kept.",
        "Звонок не удалось собрать из-за ошибки в callspan ({}); его пакеты сохранены.",
    ),
    ("One part had been delivered before: delete it in Pyrus.", "Одна часть уже передана: удалите её в Pyrus."),
    ("{} parts had been delivered before: delete it in Pyrus.", "Уже передано частей: {}; удалите их в Pyrus."),
    (
        "scan: {} from {} in {} s, none answered (calls.scan_per_minute)",
        "сканирование: {} от {} за {} с, ответа не было (calls.scan_per_minute)",
    ),
];

/// Phrases that appear as values in sentences.
const PHRASES: &[(&str, &str)] = &[
    ("caller", "звонившего"),
    ("callee", "ответившего"),
    (
        "the {}'s packets contain digital silence throughout (one-way audio): check that telephone",
        "в пакетах {} только цифровая тишина (односторонний звук): проверьте этот телефон",
    ),
    (
        "hardly any media of the {} came in the recorded part of the call",
        "звука {} в записываемой части звонка почти не пришло",
    ),
    ("the {} sent telephone-events (DTMF) only", "от {} пришли только нажатия клавиш (DTMF)"),
    ("media of the {} was deliberately not kept", "звук {} намеренно не сохранён"),
    ("no media of the {} was kept, and {}", "звук {} не сохранён, и {}"),
    (
        "the mirror showed no media of the {} in the recorded part of the call",
        "зеркало не показало звука {} в записываемой части звонка",
    ),
    ("the {}'s media is encrypted, {}", "звук {} зашифрован: {}"),
    ("the capture cut the {}'s packets short", "захват обрезал пакеты {}"),
    (
        "the contents of the {}'s packets do not fit the codec that was agreed",
        "содержимое пакетов {} не подходит к согласованному кодеку",
    ),
    ("there is no decoder for the {}'s {}", "для звука {} нет декодера: {}"),
    ("the {}'s media cannot be decoded", "звук {} не декодируется"),
    ("codec {}", "кодек {}"),
    ("payload type {}, which no SDP announced", "тип нагрузки {}, не объявленный ни в одном SDP"),
    (
        "its keys were agreed by DTLS-SRTP and never cross the wire in clear",
        "ключи согласованы по DTLS-SRTP и открыто не передаются",
    ),
    (
        "its keys were agreed by ZRTP and never cross the wire in clear",
        "ключи согласованы по ZRTP и открыто не передаются",
    ),
    (
        "its SRTP keys are not in the signalling that the mirror showed",
        "ключей SRTP нет в сигнализации, которую показало зеркало",
    ),
    ("the SRTP keys in the signalling do not open it", "ключи SRTP из сигнализации не подходят"),
    ("its SRTP suite or keys cannot be used", "набор или ключи SRTP не поддерживаются"),
    ("the disk of the spool was full{}", "диск буфера был полон{}"),
    ("the spool could not be written{}", "буфер не удалось записать{}"),
    ("this machine lost packets of the call", "эта машина потеряла пакеты звонка"),
    ("the first part", "первая часть"),
    ("the first {} parts", "первые части, {}"),
    (" (SIP status {})", " (код SIP {})"),
    ("1 attempt", "1 попытка"),
    ("{} attempts", "попыток: {}"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_with_values_and_several_sentences_are_translated() {
        for (english, russian) in [
            (
                "Only the caller can be heard: the mirror showed no media of the callee in the recorded part of the call. The call became a fax (T.38), which has no sound.",
                "Слышен только звонивший: зеркало не показало звука ответившего в записываемой части звонка. Звонок стал факсом (T.38), в нём нет звука.",
            ),
            (
                "Only the callee can be heard: no media of the caller was kept, and the disk of the spool was full (ENOSPC).",
                "Слышен только ответивший: звук звонившего не сохранён, и диск буфера был полон (ENOSPC).",
            ),
            ("The called party was busy (SIP status 486).", "Номер был занят (код SIP 486)."),
            ("Nobody answered.", "Никто не ответил."),
            (
                "There is no decoder for codec G.729.1, payload type 97, which no SDP announced.",
                "Нет декодера: кодек G.729.1, payload type 97, which no SDP announced.",
            ),
            (
                "scan: 812 attempts from 203.0.113.9 in 60 s, none answered (calls.scan_per_minute)",
                "сканирование: попыток: 812 от 203.0.113.9 за 60 с, ответа не было (calls.scan_per_minute)",
            ),
        ] {
            assert_eq!(russian_reason(english).as_deref(), Some(russian));
        }
        for unknown in ["", "A sentence of the future.", "Both sides can be heard. A sentence of the future."] {
            assert_eq!(russian_reason(unknown), None);
        }
    }

    /// Reads the sources of the modules that write reasons: a literal with five words or more is a sentence or a phrase.
    #[test]
    fn every_reason_in_the_sources_has_a_translation() {
        let sources = [
            include_str!("conversation.rs"),
            include_str!("../recording/verdict.rs"),
            include_str!("../recording/recorder/mod.rs"),
            include_str!("../service/post_process.rs"),
        ];
        let mut checked = 0;
        for source in sources {
            let code = source.split("#[cfg(test)]").next().unwrap_or_default();
            for literal in literals(code) {
                let is_reason =
                    literal.split_whitespace().count() >= 5 && !literal.contains("{error") && !is_of_logs(&literal);
                if !is_reason {
                    continue;
                }
                let text = with_values(&literal);
                let is_known = russian_reason(text.trim()).is_some() || phrase(&text) != text;
                assert!(is_known, "no translation for {text:?}");
                checked += 1;
            }
        }
        assert!(checked > 40, "{checked} sentences were found");
    }

    /// Returns whether a literal is a text for logs or developers, not a reason.
    fn is_of_logs(literal: &str) -> bool {
        let parts = ["could not be removed", "next start", "outbox", "thread", "invariant"];
        literal.starts_with("cannot ") || parts.iter().any(|part| literal.contains(part))
    }

    fn literals(code: &str) -> Vec<String> {
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        let joined = lines.replace("\\\n", "\u{1}");
        let mut out = Vec::new();
        for piece in joined.split('"').skip(1).step_by(2) {
            let mut text = String::new();
            for (n, part) in piece.split('\u{1}').enumerate() {
                text.push_str(if n == 0 { part } else { part.trim_start() });
            }
            out.push(text);
        }
        out
    }

    /// Replaces each `{name}` by a value.
    fn with_values(literal: &str) -> String {
        let mut out = String::new();
        for (n, piece) in literal.split('{').enumerate() {
            match piece.split_once('}') {
                Some((name, rest)) if n > 0 => {
                    out.push_str(if ["side"].contains(&name) {
                        "caller"
                    } else if ["", "status", "late"].contains(&name) {
                        ""
                    } else {
                        "7"
                    });
                    out.push_str(rest);
                }
                _ => out.push_str(piece),
            }
        }
        out
    }
}
