//! Reasons of verdicts in Russian: why a call can or cannot be heard.
//!
//! # Invariant
//! Each sentence in the modules that write reasons has a translation. A test compares the table with these
//! modules.

use super::phrasebook::Phrasebook;

/// Returns the reason of a verdict (why a call can or cannot be heard) in Russian. Returns `None` if a sentence has no
/// translation, e.g. because another version wrote it.
pub(crate) fn russian_reason(reason: &str) -> Option<String> {
    REASONS.text(reason)
}

/// Russian translations of the reasons of verdicts, i.e. why a call can or cannot be heard.
const REASONS: Phrasebook = Phrasebook {
    sentences: &[REASON_SENTENCES, EARLIER_REASONS],
    phrases: &[REASON_PHRASES, EARLIER_PHRASES],
    nouns: &[],
};

/// Sentences of the reasons of verdicts (why a call can or cannot be heard), in English and Russian.
pub(crate) const REASON_SENTENCES: &[(&str, &str)] = &[
    // Sentences that the module `recording::verdict` writes.
    ("Both sides can be heard.", "Слышны обе стороны."),
    (
        "Packets of both sides arrived, but those of the {} contain only silence (one-way audio): check the {}'s telephone.",
        "Пакеты обеих сторон пришли, но в пакетах {} только тишина (односторонний звук): проверьте телефон {}.",
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
        "Media packets arrived, but they contain only digital silence: check the telephones.",
        "Пакеты звука пришли, но в них только цифровая тишина: проверьте телефоны.",
    ),
    (
        "Almost no media packet of the call arrived, or almost none could be decoded.",
        "Пакетов звука почти не пришло, или почти ни один не декодируется.",
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
        "The parties agreed on media over TCP (RFC 4571), which is not recorded: let the PBX use RTP over UDP.",
        "Стороны договорились о звуке по TCP (RFC 4571), он не записывается: настройте на АТС RTP по UDP.",
    ),
    (
        "The call began before the capture, and no media of it was seen.",
        "Звонок начался до захвата, и его звука не было видно.",
    ),
    (
        "The mirror showed the signalling but no media of the call: check that it sees the media path.",
        "Зеркало показало сигнализацию, но не звук звонка: проверьте, что оно видит путь звука.",
    ),
    // Sentences that the module `call::conversation` writes.
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
        "The recorder did not run when the call was answered; the time of its restart is used instead.",
        "Регистратор не работал, когда на звонок ответили; вместо ответа взято время его перезапуска.",
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
        "Call {} ended because nobody was heard for the time of calls.silence_s; this call is its continuation.",
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
        "The direction is unknown: the left channel is the side that sent the first captured request.",
        "Направление неизвестно: в левом канале сторона, которая отправила первый захваченный запрос.",
    ),
    ("The caller hung up before anybody answered.", "Звонивший положил трубку, не дождавшись ответа."),
    ("The called party was busy{}.", "Номер был занят{}."),
    ("The called party declined the call{}.", "Вызываемый отклонил звонок{}."),
    ("Nobody answered{}.", "Никто не ответил{}."),
    ("The call was redirected elsewhere{}.", "Звонок перенаправлен{}."),
    ("The call failed before it was answered{}.", "Звонок не состоялся{}."),
    ("The capture ended before the call was answered.", "Захват закончился до ответа на звонок."),
    ("No final answer to the INVITE was seen.", "Окончательного ответа на INVITE не было видно."),
    // Sentences that the modules `recording::recorder` and `service` write.
    (
        "The sound comes from another leg of the call: the leg of the outside party cannot be decoded.",
        "Звук взят с другого плеча звонка: звук плеча внешнего абонента не декодируется.",
    ),
    (
        "The sound comes from another leg of the call: on the leg of the outside party, the mirror showed almost nothing of one side.",
        "Звук взят с другого плеча звонка: на плече внешнего абонента зеркало почти не показало одну сторону.",
    ),
    (
        "The sound comes from another leg of the call: on the leg of the outside party, the mirror lost a second or more of one side.",
        "Звук взят с другого плеча звонка: на плече внешнего абонента зеркало потеряло секунду или больше одной стороны.",
    ),
    (
        "The sound of {} comes from another leg, which was the outside party's leg at that time.",
        "Звук ({}) взят с другого плеча: тогда оно было плечом внешнего абонента.",
    ),
    (
        "The call could not be rendered because of a bug in callspan ({}); its packets are kept.",
        "Звонок не удалось собрать из-за ошибки в callspan ({}); его пакеты сохранены.",
    ),
    (
        "A leg of the call could not be rendered because of a bug in callspan; its packets are kept.",
        "Плечо звонка не удалось собрать из-за ошибки в callspan; его пакеты сохранены.",
    ),
    ("One part had been delivered before: delete it in Pyrus.", "Одна часть уже передана: удалите её в Pyrus."),
    ("{} parts had been delivered before: delete them in Pyrus.", "Уже передано частей: {}; удалите их в Pyrus."),
    (
        "scan: {} from {} in {} s, none answered (calls.scan_per_minute)",
        "сканирование: {} от {} за {} с, ответа не было (calls.scan_per_minute)",
    ),
];

/// Phrases that are inserted at `{}` into the sentences of [`REASON_SENTENCES`], in English and Russian.
pub(crate) const REASON_PHRASES: &[(&str, &str)] = &[
    ("caller", "звонившего"),
    ("callee", "ответившего"),
    (
        "the {}'s packets contain only digital silence (one-way audio): check the {}'s telephone",
        "в пакетах {} только цифровая тишина (односторонний звук): проверьте телефон {}",
    ),
    (
        "almost no media of the {} arrived in the recorded part of the call",
        "звука {} в записываемой части звонка почти не пришло",
    ),
    ("the {} sent telephone-events (DTMF) only", "от {} пришли только нажатия клавиш (DTMF)"),
    ("media of the {} was deliberately not kept", "звук {} намеренно не сохранён"),
    ("no media of the {} was kept, because {}", "звук {} не сохранён, потому что {}"),
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
    ("the SRTP keys in the signalling do not decrypt it", "ключи SRTP из сигнализации не подходят"),
    ("its SRTP suite or keys cannot be used", "набор или ключи SRTP не поддерживаются"),
    ("the disk of the spool was full{}", "диск буфера был полон{}"),
    ("the spool could not be written{}", "буфер не удалось записать{}"),
    ("packets of the call disappeared from the spool{}", "пакеты звонка пропали из буфера{}"),
    ("this machine lost packets of the call", "эта машина потеряла пакеты звонка"),
    ("the first part", "первая часть"),
    ("the first {} parts", "первые части, {}"),
    (" (SIP status {})", " (код SIP {})"),
    ("1 attempt", "1 попытка"),
    ("{} attempts", "попыток: {}"),
    // Phrases that the modules `service::render_limits` and `service::render_process` write.
    ("it used the processor for more than {} s", "процесс сборки занимал процессор дольше {} с"),
    ("it did not use the processor for {} s", "процесс сборки {} с не занимал процессор"),
    ("it gave no result within {} s", "процесс сборки не дал результата за {} с"),
    ("it gave no result", "процесс сборки не дал результата"),
    ("it does not read its requests", "процесс сборки не читает задания"),
    ("it named files of another call", "процесс сборки назвал файлы другого звонка"),
    ("it ended", "процесс сборки завершился"),
    ("it panicked", "программа сборки аварийно остановилась"),
    ("the renderer gave no record", "процесс сборки не вернул данные звонка"),
    (
        "a leg cannot be rendered, so the earlier recording stays",
        "одно из плеч не удаётся собрать, поэтому остаётся прежняя запись",
    ),
    ("signal: {}", "сигнал {}"),
    ("exit status: {}", "код завершения {}"),
];

/// Texts that earlier versions wrote into call records, in English and Russian. The journal keeps such records.
pub(crate) const EARLIER_REASONS: &[(&str, &str)] = &[
    (
        "Every media packet was cut short by the capture: raise its snap length.",
        "Захват обрезал все пакеты звука: увеличьте длину захвата (snap length).",
    ),
    (
        "Packets of both sides came, but the {}'s are silent throughout (one-way audio): check that telephone.",
        "Пакеты обеих сторон пришли, но у {} в них только тишина (односторонний звук): проверьте этот телефон.",
    ),
    (
        "Hardly any media packet of the call came or could be decoded.",
        "Пакетов звука почти не пришло, или они не декодируются.",
    ),
    (
        "Media packets came, but they contain digital silence throughout: check the telephones.",
        "Пакеты звука пришли, но в них только цифровая тишина: проверьте телефоны.",
    ),
    (
        "Call {} ended because nobody was heard for calls.silence_s; this call is its continuation.",
        "Звонок {} закончен, потому что дольше calls.silence_s никого не было слышно; этот звонок — его продолжение.",
    ),
    (
        "The direction is unknown: the left channel is the side that was seen to act first.",
        "Направление неизвестно: в левом канале сторона, которая действовала первой.",
    ),
    (
        "The sound of {} is that of another leg, which was the outside party's when it was made.",
        "Звук ({}) взят с другого плеча: тогда оно было плечом внешнего абонента.",
    ),
    (
        "The sound is that of another leg of the call: the outside party's own cannot be decoded.",
        "Звук взят с другого плеча звонка: звук плеча внешнего абонента не декодируется.",
    ),
    (
        "The sound is that of another leg of the call: on the first, the mirror showed little or nothing of one side.",
        "Звук взят с другого плеча звонка: на первом зеркало почти или совсем не показало одну сторону.",
    ),
    ("{} parts had been delivered before: delete it in Pyrus.", "Уже передано частей: {}; удалите их в Pyrus."),
];

/// Phrases that earlier versions inserted into sentences, in English and Russian.
pub(crate) const EARLIER_PHRASES: &[(&str, &str)] = &[
    (
        "the {}'s packets contain digital silence throughout (one-way audio): check that telephone",
        "в пакетах {} только цифровая тишина (односторонний звук): проверьте этот телефон",
    ),
    (
        "hardly any media of the {} came in the recorded part of the call",
        "звука {} в записываемой части звонка почти не пришло",
    ),
    ("no media of the {} was kept, and {}", "звук {} не сохранён, и {}"),
    ("the SRTP keys in the signalling do not open it", "ключи SRTP из сигнализации не подходят"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::phrasebook::sources::assert_translated;

    #[test]
    fn sentences_with_values_and_several_sentences_are_translated() {
        for (english, russian) in [
            (
                "Only the caller can be heard: the mirror showed no media of the callee in the recorded part of the call. The call became a fax (T.38), which has no sound.",
                "Слышен только звонивший: зеркало не показало звука ответившего в записываемой части звонка. Звонок стал факсом (T.38), в нём нет звука.",
            ),
            (
                "Only the callee can be heard: no media of the caller was kept, because the disk of the spool was full (ENOSPC).",
                "Слышен только ответивший: звук звонившего не сохранён, потому что диск буфера был полон (ENOSPC).",
            ),
            // The next sentence is no longer written; records of an earlier version contain it.
            (
                "Hardly any media packet of the call came or could be decoded.",
                "Пакетов звука почти не пришло, или они не декодируются.",
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
            (
                "Only the caller can be heard: the callee's media cannot be decoded. A leg of the call could not be rendered because of a bug in callspan; its packets are kept.",
                "Слышен только звонивший: звук ответившего не декодируется. Плечо звонка не удалось собрать из-за ошибки в callspan; его пакеты сохранены.",
            ),
        ] {
            assert_eq!(russian_reason(english).as_deref(), Some(russian));
        }
        for unknown in ["", "A sentence of the future.", "Both sides can be heard. A sentence of the future."] {
            assert_eq!(russian_reason(unknown), None);
        }
    }

    #[test]
    fn reasons_of_failed_render_workers_are_russian() {
        for (how, russian) in [
            ("it used the processor for more than 121 s", "процесс сборки занимал процессор дольше 121 с"),
            ("it did not use the processor for 300 s", "процесс сборки 300 с не занимал процессор"),
            ("it gave no result within 3600 s", "процесс сборки не дал результата за 3600 с"),
            ("it gave no result", "процесс сборки не дал результата"),
            ("it ended", "процесс сборки завершился"),
            ("it panicked", "программа сборки аварийно остановилась"),
            ("signal: 6 (SIGABRT) (core dumped)", "сигнал 6 (SIGABRT) (core dumped)"),
        ] {
            let reason =
                format!("The call could not be rendered because of a bug in callspan ({how}); its packets are kept.");
            let expected =
                format!("Звонок не удалось собрать из-за ошибки в callspan ({russian}); его пакеты сохранены.");
            assert_eq!(russian_reason(&reason), Some(expected));
        }
    }

    /// Searches the modules that write reasons for string literals of five words or more. Each must be in the table.
    #[test]
    fn every_reason_in_the_sources_has_a_translation() {
        let sources = [
            include_str!("conversation.rs"),
            include_str!("../recording/verdict.rs"),
            include_str!("../recording/recorder/mod.rs"),
            include_str!("../service/post_process.rs"),
            include_str!("../service/render_limits.rs"),
        ];
        assert_translated(&REASONS, (&sources, 40), 5, is_other);
    }

    /// Returns whether a text is for logs or developers. Such a text needs no translation.
    fn is_other(literal: &str) -> bool {
        let parts =
            ["could not be removed", "next start", "outbox", "thread", "invariant", "{error", "the machine is busy"];
        literal.starts_with("cannot ") || parts.iter().any(|part| literal.contains(part))
    }
}
