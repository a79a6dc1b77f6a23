//! Russian translations of sentences that earlier versions wrote into alarms, findings of the doctor and test calls.
//!
//! Held-back alarms and the result of the last test call are stored as English sentences. So are the reports of the
//! sites in the central archive. An upgrade must not turn them into English texts on a Russian page.
//!
//! # Invariant
//! A sentence that is reworded moves from its own table to this table, with its translation. The file
//! `stored_sentences.txt` lists all sentences that any version wrote. A test compares the list with the tables.

/// Sentences that earlier versions wrote into alarms, in English and Russian.
pub(crate) const EARLIER_ALARMS: &[(&str, &str)] = &[
    (
        "SIP is seen in one direction only, for example from {} to {}; RTP is seen in one direction only, for example from {} to {}. {}",
        "SIP виден только в одном направлении, например от {} к {}; RTP виден только в одном направлении, например от {} к {}. {}",
    ),
    ("a bug in callspan stopped the archive; it begins again", "ошибка в callspan остановила архив; он начинает снова"),
    (
        "no SIP for {} minutes at an hour at which earlier days had SIP: look at the mirror session of the switch, the cable and the PBX. The source of the session must be the port of the PBX, in both directions. The command `callspan doctor` checks the port",
        "нет SIP уже {} мин в час, когда в прежние дни он был: проверьте сессию зеркала на коммутаторе, кабель и АТС. Источник сессии — порт АТС, оба направления. Порт проверит команда `callspan doctor`",
    ),
    (
        "no SIP for {} minutes at an hour at which earlier days had it: look at the mirror session of the switch (its source must be the port of the PBX, both directions), the cable and the PBX; `callspan doctor` checks the port",
        "нет SIP уже {} мин в час, когда в прежние дни он был: проверьте сессию зеркала на коммутаторе (источник — порт АТС, оба направления), кабель и АТС; порт проверит `callspan doctor`",
    ),
    (
        "the RTP of the {} is missing, and its SIP messages arrived: a filter before the recorder removes it",
        "нет RTP {}, а его сообщения SIP дошли: звук убирает фильтр перед регистратором",
    ),
    (
        "the file system of the {} folder {} is mounted read-only, as Linux does after a disk error: look at `dmesg`, repair the disk and mount it again",
        "файловая система папки {} ({}) подключена только для чтения, как делает Linux после ошибки диска: посмотрите `dmesg`, исправьте диск и подключите его снова",
    ),
    (
        "the file system of the {} folder {} is mounted read-only. Linux does so after a disk error: look at `dmesg`, repair the disk and mount it again",
        "файловая система папки {} ({}) подключена только для чтения. Так делает Linux после ошибки диска: посмотрите `dmesg`, исправьте диск и подключите его снова",
    ),
    ("the test call was recorded right", "проверочный звонок записан верно"),
    (
        "the {} thread has made no progress for {} s: a disk or a network folder does not answer. systemd restarts the service if it stays so",
        "поток {} не продвигается уже {} с: диск или сетевая папка не отвечает. Если так останется, systemd перезапустит службу",
    ),
    (
        "the {} thread has made no progress for {} s: a disk or a network folder does not answer; systemd restarts the service if it stays so",
        "поток {} не продвигается уже {} с: диск или сетевая папка не отвечает; если так останется, systemd перезапустит службу",
    ),
    (
        "{} is seen in one direction only, for example from {} to {}. {}",
        "{} виден только в одном направлении, например от {} к {}. {}",
    ),
    (
        "{}; it was rebuilt from the records of {} calls in {}",
        "{}; он восстановлен по записям звонков, числом {}, из {}",
    ),
    (
        "Calls in it are not recorded. Mirror with one of the kinds that callspan undoes: a plain port, VLAN tags, ERSPAN, GRE, VXLAN, GENEVE, TZSP, L2TP or HP remote mirroring.",
        "Звонки в ней не записываются. Зеркалируйте одним из видов, которые callspan разбирает: обычный порт, метки VLAN, ERSPAN, GRE, VXLAN, GENEVE, TZSP, L2TP или удалённое зеркало HP.",
    ),
    (
        "Calls in it are not recorded. Use another kind of mirror. callspan undoes a plain port, VLAN tags, ERSPAN, GRE, VXLAN, GENEVE, TZSP, L2TP and HP remote mirroring.",
        "Звонки в ней не записываются. Возьмите другой вид зеркала. callspan разбирает обычный порт, метки VLAN, ERSPAN, GRE, VXLAN, GENEVE, TZSP, L2TP и удалённое зеркало HP.",
    ),
    (
        "Calls whose packets take the silent way have no sound, or one side. Check the cable and the mirror session of this interface. If there was simply no call on it, look for longer:",
        "В звонках, чьи пакеты идут молчащим путём, нет звука или одной стороны. Проверьте кабель и сессию зеркала этого интерфейса. Если звонков на нём просто не было, смотрите дольше:",
    ),
    (
        "Either there was no call (make a call and run the doctor again), or the mirror copies a port other than that of the PBX, or the mirror session is off and only broadcasts arrive.",
        "Или звонков не было (позвоните и запустите доктора снова), или зеркало копирует не порт АТС, или сессия зеркала выключена и приходят только широковещательные кадры.",
    ),
    (
        "If the PBX or the trunk uses SIP over TLS on a port other than 5061, mirror an unencrypted side of the PBX, or use SIP over UDP or TCP inside your network.",
        "Если АТС или транк использует SIP поверх TLS не на порту 5061, зеркалируйте незашифрованную сторону АТС или используйте внутри сети SIP по UDP или TCP.",
    ),
    (
        "If the calls are in it, mirror with one of the kinds that callspan undoes: a plain port, VLAN tags, ERSPAN, GRE, VXLAN, GENEVE, TZSP, L2TP or HP remote mirroring.",
        "Если звонки в нём, зеркалируйте одним из видов, которые callspan разбирает: обычный порт, метки VLAN, ERSPAN, GRE, VXLAN, GENEVE, TZSP, L2TP или удалённое зеркало HP.",
    ),
    (
        "If the calls are in it, use another kind of mirror. callspan undoes a plain port, VLAN tags, ERSPAN, GRE, VXLAN, GENEVE, TZSP, L2TP and HP remote mirroring.",
        "Если звонки в нём, возьмите другой вид зеркала. callspan разбирает обычный порт, метки VLAN, ERSPAN, GRE, VXLAN, GENEVE, TZSP, L2TP и удалённое зеркало HP.",
    ),
    (
        "SIP is seen in one direction only, for example from {} to {}; RTP is seen in one direction only, for example from {} to {}",
        "SIP виден только в одном направлении, например от {} к {}; RTP виден только в одном направлении, например от {} к {}",
    ),
    (
        "Their RTP is on the mirror, but from and to other addresses and ports than the signalling announces, so that it cannot be matched for certain. Mirror the other side of the NAT, or let the PBX announce the address at which it receives media.",
        "Их RTP есть в зеркале, но с других адресов и портов, чем в сигнализации, и надёжно сопоставить его нельзя. Зеркалируйте другую сторону NAT, или пусть АТС объявляет адрес, на котором принимает звук.",
    ),
    (
        "of {} of hosts with RTP, {} are seen in one direction only",
        "узлы с RTP: {}, только в одном направлении видны: {}",
    ),
    (
        "of {} of hosts with RTP, {} is seen in one direction only",
        "узлы с RTP: {}, только в одном направлении видны: {}",
    ),
    (
        "of {}, {} belong to incomplete datagrams, {} cannot be used",
        "{}: из них в неполных датаграммах {}, непригодны {}",
    ),
    (
        "of {}, {} belongs to incomplete datagrams, {} cannot be used",
        "{}: из них в неполных датаграммах {}, непригодны {}",
    ),
    (
        "the clock was set ahead by about {} s during the capture: calls continue after a gap of that length as if there were none",
        "во время захвата часы перевели вперёд примерно на {} с: звонки продолжаются после такого пропуска, будто его не было",
    ),
    (
        "the clock was set ahead by about {} s during the capture: the capture has a gap of that length, but the RTP of running calls has none",
        "во время захвата часы перевели вперёд примерно на {} с: в захвате пропуск такой длины, а в RTP идущих звонков его нет",
    ),
    (
        "{} is seen in one direction only, for example from {} to {}",
        "{} виден только в одном направлении, например от {} к {}",
    ),
    ("{} of {} had RTP, but none that a recording would hold", "RTP есть, но для записи не годится: {}, всего {}"),
    (
        "the journal was found damaged ({}): the service ends, and makes it anew from the records when it is started again",
        "журнал повреждён ({}): служба завершается и при следующем запуске восстановит журнал по записям",
    ),
    (
        "frames were lost on this machine ({} in the kernel, {} in the interface): give capture.buffer_mib more, or the machine more processor",
        "на этой машине потеряны кадры (в ядре {}, в карте {}): увеличьте capture.buffer_mib или дайте машине больше процессорного времени",
    ),
    (
        "frames were lost on this machine: give capture.buffer_mib more, or the machine more processor",
        "на этой машине потеряны кадры: увеличьте capture.buffer_mib или дайте машине больше процессорного времени",
    ),
    (
        "a recording cannot be encrypted ({}); it stays as it is and is tried again",
        "запись не удаётся зашифровать ({}); она остаётся незашифрованной, попытка повторится",
    ),
    ("{} was changed since it was written: it is not encrypted", "{} изменён после записи и не шифруется"),
    ("the call cannot be rendered again, as was asked for: {}", "звонок не удаётся собрать снова, как просили: {}"),
    (
        "a bug of callspan ended the work on the call; it is tried again at the next start",
        "работа над звонком остановлена из-за ошибки в callspan; следующий запуск попробует снова",
    ),
    (
        "the recording cannot be written ({}); it is tried again in {} s",
        "запись не удаётся сохранить ({}); callspan попробует снова через {} с",
    ),
    (
        "the call could not be rendered; its packets are kept in the spool folder as .pcapng.failed",
        "звонок не удалось собрать; его пакеты оставлены в папке буфера как .pcapng.failed",
    ),
    (
        "{}; it was made anew from the records of {} calls in {}",
        "{}; он восстановлен по записям звонков, числом {}, из {}",
    ),
    ("delivery has stopped: the journal cannot be written", "передача остановлена: журнал не записывается"),
    ("delivery waits: the journal cannot be written", "передача ждёт: журнал не записывается"),
];

/// Phrases that earlier versions inserted into the sentences of [`EARLIER_ALARMS`], in English and Russian.
pub(crate) const EARLIER_ALARM_PHRASES: &[(&str, &str)] = &[
    (
        "the disk belongs to another callspan, or is an old one of this",
        "диск принадлежит другому callspan или это старый диск этого",
    ),
    ("the journal was not whole", "журнал был неполным"),
    ("the journal was gone", "журнала не было"),
];

#[cfg(test)]
mod tests {
    use crate::ops::alarm_ru::ALARMS;

    #[test]
    fn every_sentence_that_was_ever_stored_has_a_translation() {
        let tables = ALARMS.sentences.iter().chain(ALARMS.phrases).copied().flatten();
        let known: std::collections::BTreeSet<&str> = tables.map(|(english, _)| *english).collect();
        let stored: std::collections::BTreeSet<&str> = include_str!("stored_sentences.txt").lines().collect();
        let lost: Vec<_> = stored.difference(&known).collect();
        assert!(
            lost.is_empty(),
            "move the reworded sentence with its translation to a table of earlier sentences: {lost:#?}"
        );
        let unlisted: Vec<_> = known.difference(&stored).collect();
        assert!(unlisted.is_empty(), "add the new sentence to stored_sentences.txt: {unlisted:#?}");
    }

    #[test]
    fn sentences_of_earlier_versions_are_russian() {
        for (english, russian) in [
            (
                "the journal was gone; it was made anew from the records of 7 calls in /var/lib/callspan",
                "журнала не было; он восстановлен по записям звонков, числом 7, из /var/lib/callspan",
            ),
            (
                "the recording cannot be written (No space left); it is tried again in 30 s",
                "запись не удаётся сохранить (No space left); callspan попробует снова через 30 с",
            ),
            ("the test call was recorded right", "проверочный звонок записан верно"),
        ] {
            assert_eq!(ALARMS.text(english).as_deref(), Some(russian));
        }
    }
}
