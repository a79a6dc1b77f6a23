//! Findings of the doctor in Russian. Commands are the same in every language.
//!
//! # Invariant
//! Every sentence in the rules has a translation. A test compares the table with the sources of the rules.

use crate::call::phrasebook::Phrasebook;

/// Russian translations of the doctor's findings and remedies.
pub(crate) const FINDINGS: Phrasebook =
    Phrasebook { sentences: &[FINDING_SENTENCES], phrases: &[FINDING_PHRASES], nouns: FINDING_NOUNS };

/// Russian forms of the nouns that findings count: for 1, for 2 to 4, and for 5 and more.
pub(crate) const FINDING_NOUNS: &[(&str, [&str; 3])] = &[
    ("frame", ["кадр", "кадра", "кадров"]),
    ("packet", ["пакет", "пакета", "пакетов"]),
    ("IP packet", ["пакет IP", "пакета IP", "пакетов IP"]),
    ("RTP packet", ["пакет RTP", "пакета RTP", "пакетов RTP"]),
    ("RTP stream", ["поток RTP", "потока RTP", "потоков RTP"]),
    ("SRTP stream", ["поток SRTP", "потока SRTP", "потоков SRTP"]),
    ("TLS stream", ["поток TLS", "потока TLS", "потоков TLS"]),
    ("SIP message", ["сообщение SIP", "сообщения SIP", "сообщений SIP"]),
    ("stream", ["поток", "потока", "потоков"]),
    ("direction", ["направление", "направления", "направлений"]),
    ("answered call", ["отвеченный звонок", "отвеченных звонка", "отвеченных звонков"]),
    ("call", ["звонок", "звонка", "звонков"]),
    ("pair", ["пара", "пары", "пар"]),
    ("datagram", ["датаграмма", "датаграммы", "датаграмм"]),
    ("IP fragment", ["фрагмент IP", "фрагмента IP", "фрагментов IP"]),
    ("time", ["раз", "раза", "раз"]),
    ("unanswered INVITE", ["INVITE без ответа", "INVITE без ответа", "INVITE без ответа"]),
    ("piece", ["часть", "части", "частей"]),
];

/// Russian texts for the sentences of findings and remedies.
pub(crate) const FINDING_SENTENCES: &[(&str, &str)] = &[
    (
        "{}: {} in {} s, {}, {}, {} ({} answered, {} heard on both sides), {} lost on this machine",
        "{}: {} за {} с, {}, {}, {} (отвечено {}, слышны обе стороны {}), на этой машине потеряно: {}",
    ),
    ("{}, {}, {}, {}, {} lost on this machine", "{}, {}, {}, {}, на этой машине потеряно: {}"),
    ("(Replace eth1 by your mirror port.)", "(Вместо eth1 подставьте свой порт зеркала.)"),
    // Sentences from the module `rules::machine`.
    ("the kernel dropped {} because its ring was full", "ядро отбросило: {}, потому что его кольцо было заполнено"),
    (
        "This machine read the packets slower than the mirror sent them. Increase capture.buffer_mib, and check what else uses the processor.",
        "Эта машина читала пакеты медленнее, чем их присылало зеркало. Увеличьте capture.buffer_mib и проверьте, что ещё занимает процессор.",
    ),
    ("{} has no link", "на {} нет линка"),
    ("The cable is unplugged, or the switch port is disabled.", "Кабель не подключён, или порт коммутатора выключен."),
    ("{} merges packets ({} on)", "{} склеивает пакеты (включено: {})"),
    (
        "Merged packets differ from the packets on the wire, and their times are wrong. Switch it off (until the next boot):",
        "Склеенные пакеты отличаются от тех, что в сети, и их время неверно. Выключите это (до перезагрузки):",
    ),
    (
        "Merged packets differ from the packets on the wire, and their times are wrong. This card cannot switch off all of it; use another card for the mirror.",
        "Склеенные пакеты отличаются от тех, что в сети, и их время неверно. Эта карта не умеет выключать всё; возьмите для зеркала другую карту.",
    ),
    (
        "ethtool is not installed, so GRO and LRO of {} were not checked",
        "ethtool не установлен, поэтому GRO и LRO на {} не проверены",
    ),
    ("Install ethtool and run the doctor again:", "Установите ethtool и запустите доктора снова:"),
    ("{} lost {} in the card", "{}: потеряно в карте: {}"),
    (
        "The card's receive ring was full before the kernel took the frames. Set the ring to its largest size:",
        "Приёмное кольцо карты заполнилось раньше, чем ядро забрало кадры. Поставьте кольцо на наибольший размер:",
    ),
    ("{} arrived damaged on {}", "пришло повреждёнными: {} (на {})"),
    (
        "Change the cable or the optics, then check whether the counter still grows:",
        "Замените кабель или оптику, затем проверьте, растёт ли счётчик:",
    ),
    ("the clock of this machine is not synchronised", "часы этой машины не синхронизированы"),
    (
        "Call times will be wrong, and Pyrus rejects a clock that is far off. Use NTP:",
        "Время звонков будет неверным, а Pyrus отвергает часы, которые сильно врут. Включите NTP:",
    ),
    ("the clock was set {} during the check", "за время проверки часы переводились: {}"),
    (
        "Recordings stay complete, but call times before and after the change do not match. Let NTP slew the clock, and do not set it by hand or from the hypervisor.",
        "Записи остаются полными, но время звонков до и после перевода не сходится. Пусть часы плавно подводит NTP; не переводите их вручную или из гипервизора.",
    ),
    (
        "the clock was set ahead by about {} s: the capture has a gap of that length, but the RTP of its calls has none",
        "во время захвата часы перевели вперёд примерно на {} с: в захвате пропуск такой длины, а в RTP идущих звонков его нет",
    ),
    (
        "A call across the gap is split into two records or has a hole. Let NTP slew the clock of the capturing machine.",
        "Звонок, попавший на пропуск, разделён на два или имеет дыру. Пусть часы захватывающей машины плавно подводит NTP.",
    ),
    (
        "the first frame has the time {}: the clock was not set yet",
        "время первого кадра — {}: часы ещё не были установлены",
    ),
    (
        "Calls from then have wrong times. Start the capture after the clock is set:",
        "Время этих звонков неверно. Запускайте захват после установки часов:",
    ),
    ("a frame of {} bytes arrived on an interface with an MTU of {}", "пришёл кадр в {} байт на интерфейс с MTU {}"),
    ("a frame of {} bytes: no network carries such a frame", "кадр в {} байт: таких кадров в сети не бывает"),
    (
        "A card merged packets (GRO, LRO), or the network uses jumbo frames that this port may truncate.",
        "Карта склеила пакеты (GRO, LRO), или в сети jumbo-кадры, которые этот порт может обрезать.",
    ),
    ("{} with several RTP packets each", "по несколько пакетов RTP в одном кадре: {}"),
    (
        "The card or the kernel merges UDP packets (GRO). Recordings split them again, but all get the time of the last packet, and live statistics count the others as lost. Switch it off (until the next boot):",
        "Карта или ядро склеивает пакеты UDP (GRO). Записи разделяют их снова, но все получают время последнего пакета, а статистика на лету считает остальные потерянными. Выключите это (до перезагрузки):",
    ),
    (
        "{} without a length: captured at the sender, before its card segmented them",
        "без длины: {}; захвачено у отправителя, до разделения его картой",
    ),
    (
        "If you capture on the PBX itself, switch segmentation offload off for the capture:",
        "Если захват идёт на самой АТС, выключите на это время разделение сегментов картой:",
    ),
    // Sentences from the module `rules::media`.
    ("{} of SIP over TLS (port 5061), which cannot be read", "SIP поверх TLS (порт 5061), его нельзя прочитать: {}"),
    (
        "Calls signalled over TLS are not recorded. Mirror an unencrypted side of the PBX (usually the trunk), or use SIP over UDP or TCP inside your network. On Asterisk, in the endpoint of the trunk or telephone:",
        "Звонки с сигнализацией по TLS не записываются. Зеркалируйте незашифрованную сторону АТС (обычно транк) или используйте внутри сети SIP по UDP или TCP. В Asterisk, в endpoint транка или телефона:",
    ),
    (
        "{} belong to no signalled call, and there are {}: they may carry signalling",
        "не относятся ни к одному звонку: {}; есть {}: сигнализация может идти там",
    ),
    (
        "The PBX or the trunk may use SIP over TLS on a port other than 5061. Then mirror an unencrypted side of the PBX, or use SIP over UDP or TCP inside your network.",
        "Возможно, АТС или транк использует SIP поверх TLS не на порту 5061. Тогда зеркалируйте незашифрованную сторону АТС или используйте внутри сети SIP по UDP или TCP.",
    ),
    (
        "{} but no SIP message; signalling may be in one of {}",
        "{}, но ни одного сообщения SIP; сигнализация может быть здесь: {}",
    ),
    ("{} but no SIP message", "{}, но ни одного сообщения SIP"),
    (
        "Without signalling no call can be recorded. The signalling takes another path, for example another uplink or a VLAN that is not mirrored. Mirror the port of the PBX, where both meet, and check for SIP:",
        "Без сигнализации нельзя записать ни одного звонка. Она идёт другим путём, например через другой аплинк или VLAN, которого нет в зеркале. Зеркалируйте порт АТС, где проходит и то и другое, и проверьте SIP:",
    ),
    ("{}, but none belongs to a signalled call", "{}, но ни один не относится к звонку с сигнализацией"),
    (
        "The mirror shows the signalling of some calls and the media of others. Mirror the port of the PBX, where both meet.",
        "Зеркало показывает сигнализацию одних звонков и звук других. Зеркалируйте порт АТС, где проходит и то и другое.",
    ),
    ("{} of {} had no RTP", "без RTP: {}, всего {}"),
    (
        "The telephones send media directly to each other, past the mirrored port, or the mirror covers only the signalling VLAN. Mirror the path of the media, or let the PBX carry the media. On Asterisk, in the endpoint:",
        "Телефоны передают звук напрямую друг другу, мимо зеркалируемого порта, или в зеркале только VLAN сигнализации. Зеркалируйте путь звука или проведите звук через АТС. В Asterisk, в endpoint:",
    ),
    (
        "The media of these calls takes a path that is not mirrored. Mirror the port of the PBX, and let the PBX carry the media. On Asterisk, in the endpoint:",
        "Звук этих звонков идёт путём, которого нет в зеркале. Зеркалируйте порт АТС и проведите звук через АТС. В Asterisk, в endpoint:",
    ),
    ("the media of {} of {} is behind a NAT", "звук за NAT: {}, всего {}"),
    (
        "Their RTP is on the mirror, but from and to other addresses and ports than the signalling announces. So it cannot be matched for certain. Mirror the other side of the NAT, or let the PBX announce the address at which it receives media.",
        "Их RTP есть в зеркале, но с других адресов и портов, чем в сигнализации. Поэтому надёжно сопоставить его нельзя. Зеркалируйте другую сторону NAT, или пусть АТС объявляет адрес, на котором принимает звук.",
    ),
    ("{} of {} had audio on one side only", "звук только одной стороны: {}, всего {}"),
    (
        "The other party was muted or on hold throughout, or its media takes a path that is not mirrored. `callspan replay` of a capture shows the side of each call. If it is always the same side, mirror the port of the PBX and let the PBX carry the media. On Asterisk, in the endpoint:",
        "Другой абонент всё время был без микрофона или на удержании, или его звук идёт путём, которого нет в зеркале. `callspan replay` по захвату показывает сторону каждого звонка. Если сторона всегда одна, зеркалируйте порт АТС и проведите звук через АТС. В Asterisk, в endpoint:",
    ),
    (
        "no call was answered during the check, so media was not judged",
        "за время проверки не было отвеченных звонков, поэтому звук не оценивался",
    ),
    ("{} was shorter than 2 s, so media was not judged", "короче 2 с: {}, поэтому звук не оценивался"),
    ("{} were shorter than 2 s, so media was not judged", "короче 2 с: {}, поэтому звук не оценивался"),
    ("{} was a fax, so audio was not judged", "факс: {}, поэтому звук не оценивался"),
    ("{} were a fax, so audio was not judged", "факс: {}, поэтому звук не оценивался"),
    ("Make a call of ten seconds and run the doctor again.", "Позвоните на десять секунд и запустите доктора снова."),
    ("{} of {} had RTP, but no sound that can be recorded", "RTP есть, но для записи не годится: {}, всего {}"),
    (
        "`callspan replay` of a capture shows the reason for each call (verdict_reason, problems).",
        "`callspan replay` по захвату показывает причину для каждого звонка (verdict_reason, problems).",
    ),
    ("{} of SIP over SCTP, which is not read", "SIP поверх SCTP, он не читается: {}"),
    (
        "Calls signalled over SCTP are not recorded. Use SIP over UDP or TCP on the mirrored side.",
        "Звонки с сигнализацией по SCTP не записываются. Используйте на зеркалируемой стороне SIP по UDP или TCP.",
    ),
    ("{} with media over TCP, which is not recorded", "{} со звуком по TCP, он не записывается"),
    ("{} of RTP over TCP, which is not recorded", "RTP поверх TCP, он не записывается: {}"),
    (
        "The calls with this media have no audio in their recording. Let the PBX use RTP over UDP.",
        "В записях звонков с таким звуком звука нет. Пусть АТС использует RTP по UDP.",
    ),
    ("encrypted RTP streams: {}", "зашифрованные потоки RTP: {}"),
    (
        "These streams cannot be decrypted; their calls get the verdict `encrypted`. Use SDES (keys in the signalling) or no encryption on the mirrored side. On Asterisk, in the endpoint:",
        "Эти потоки нельзя расшифровать; их звонки получают вердикт `encrypted`. Используйте на зеркалируемой стороне SDES (ключи в сигнализации) или отключите шифрование. В Asterisk, в endpoint:",
    ),
    ("{} with keys in the signalling (SDES): decrypted", "с ключами в сигнализации (SDES): {}, расшифровываются"),
    ("codecs without a decoder: {}", "кодеки, для которых нет декодера: {}"),
    (
        "Their calls get the verdict `unknown_codec`. Allow codecs that can be decoded: G.711, G.722, G.726, G.729, GSM, iLBC, AMR, AMR-WB, Opus, Speex. On Asterisk, in the endpoint:",
        "Их звонки получают вердикт `unknown_codec`. Разрешите кодеки, которые декодируются: G.711, G.722, G.726, G.729, GSM, iLBC, AMR, AMR-WB, Opus, Speex. В Asterisk, в endpoint:",
    ),
    ("{} could not be read", "не прочитано: {}"),
    (
        "They are truncated, or a program sends other data to the SIP port. Inspect them in Wireshark (filter: sip).",
        "Они обрезаны, или какая-то программа шлёт на порт SIP другие данные. Посмотрите их в Wireshark (фильтр: sip).",
    ),
    // Sentences from the module `rules::topology`.
    (
        "{} and {} count as one machine: {} showed it, the last one at {}",
        "{} и {} считаются одной машиной: это показали: {}, последний — {}",
    ),
    (
        "Nothing has to be done. To keep it for ever, write calls.pbx_addresses = {}. If these are two machines, write {}.",
        "Делать ничего не нужно. Чтобы закрепить это, запишите calls.pbx_addresses = {}. Если это две машины, запишите {}.",
    ),
    // Sentences from the module `rules::wire`.
    ("the capture contains no frame", "в захвате нет ни одного кадра"),
    ("no frame arrived in {} s", "за {} с не пришло ни одного кадра"),
    (
        "The capture is empty. Capture again, for longer than one call:",
        "Захват пуст. Запишите снова, дольше одного звонка:",
    ),
    (
        "The mirror sends nothing to this port. Check the link, then the mirror session of the switch: its destination must be the port of this cable. In a virtual machine the hypervisor must allow promiscuous mode.",
        "Зеркало ничего не присылает на этот порт. Проверьте линк, затем сессию зеркала на коммутаторе: её назначение — порт этого кабеля. В виртуальной машине гипервизор должен разрешать promiscuous mode.",
    ),
    ("{} have an unsupported link type", "неподдерживаемый тип канала: {}"),
    (
        "Capture on an Ethernet interface (or `any`), not on a radio, USB or Bluetooth monitor.",
        "Захватывайте на интерфейсе Ethernet (или `any`), а не на мониторе радио, USB или Bluetooth.",
    ),
    ("{} in {} s, none of them SIP or RTP", "{} за {} с, ни одного SIP или RTP"),
    (
        "If there was no call, make a call and run the doctor again. Otherwise the mirror copies a port other than that of the PBX, or the mirror session is off and only broadcasts arrive.",
        "Если звонков не было, позвоните и запустите доктора снова. Иначе зеркало копирует не порт АТС, или сессия зеркала выключена и приходят только широковещательные кадры.",
    ),
    (
        "SIP is seen in one direction only (for example from {} to {}); RTP is seen in one direction only (for example from {} to {})",
        "SIP виден только в одном направлении (например от {} к {}); RTP виден только в одном направлении (например от {} к {})",
    ),
    (
        "SIP is seen in one direction only (for example from {} to {}); RTP is seen in one direction only",
        "SIP виден только в одном направлении (например от {} к {}); RTP виден только в одном направлении",
    ),
    (
        "{} is seen in one direction only (for example from {} to {})",
        "{} виден только в одном направлении (например от {} к {})",
    ),
    ("{} is seen in one direction only", "{} виден только в одном направлении"),
    (
        "RTP goes in one direction only between {} of {} of hosts",
        "RTP идёт только в одном направлении у пар узлов: {}; всего {}",
    ),
    (
        "The mirror copies only one direction of the port, so recordings would have one side. Mirror both directions. On a Cisco switch:",
        "Зеркало копирует только одно направление порта, и в записях была бы одна сторона. Зеркалируйте оба направления. На коммутаторе Cisco:",
    ),
    (
        "The other direction takes a path that is not mirrored (a second uplink, a media relay), or a party was muted. Mirror the port of the PBX and let the PBX carry the media. On Asterisk, in the endpoint:",
        "Другое направление идёт путём, которого нет в зеркале (второй аплинк, ретранслятор звука), или абонент был без микрофона. Зеркалируйте порт АТС и проведите звук через АТС. В Asterisk, в endpoint:",
    ),
    ("{} is cut by the snap length, {} among them", "обрезано длиной захвата (snap length): {}, среди них {}"),
    ("{} are cut by the snap length, {} among them", "обрезано длиной захвата (snap length): {}, среди них {}"),
    ("{} is cut by the snap length", "обрезано длиной захвата (snap length): {}"),
    ("{} are cut by the snap length", "обрезано длиной захвата (snap length): {}"),
    (
        "Audio and the media addresses of long messages are lost behind the cut. Capture complete frames:",
        "За обрезом теряется звук и адреса звука в длинных сообщениях. Захватывайте кадры целиком:",
    ),
    (
        "{} is shorter than the length in their header, {} among them",
        "короче, чем указано в заголовке: {}, среди них {}",
    ),
    (
        "{} are shorter than the length in their header, {} among them",
        "короче, чем указано в заголовке: {}, среди них {}",
    ),
    ("{} is shorter than the length in their header", "короче, чем указано в заголовке: {}"),
    ("{} are shorter than the length in their header", "короче, чем указано в заголовке: {}"),
    (
        "The switch truncates the mirrored frames. Switch truncation off in the mirror session. On a Cisco Nexus:",
        "Коммутатор обрезает кадры зеркала. Выключите обрезание в сессии зеркала. На Cisco Nexus:",
    ),
    ("{} showed neither SIP nor RTP, while {} did", "{}: ни SIP, ни RTP не видно, а на {} видно"),
    (
        "A call that passes the silent interface has no sound, or one side only. Check the cable and the mirror session of this interface. If there was simply no call on it, look for longer:",
        "В звонке, который идёт через молчащий интерфейс, нет звука или одной стороны. Проверьте кабель и сессию зеркала этого интерфейса. Если звонков на нём просто не было, смотрите дольше:",
    ),
    (
        "Several interfaces show the same packets. callspan keeps the first of each, so recordings are correct.",
        "Несколько интерфейсов показывают одни и те же пакеты. callspan оставляет первый из каждых, записи верны.",
    ),
    (
        "{} % of the packets are copies, made by the mirror or by a sender that repeats itself ({})",
        "{} % пакетов — копии, сделанные зеркалом или отправителем, который повторяется ({})",
    ),
    (
        "callspan drops the copies, so recordings are correct. But they fill the mirror port, which then loses packets. Copies arise where two mirrored ports (or a port and its VLAN) see the same packet. Mirror only the port of the PBX. On a Cisco switch:",
        "callspan отбрасывает копии, записи верны. Но копии занимают порт зеркала, и он теряет пакеты. Они возникают, когда один пакет виден на двух зеркалируемых портах (или на порту и в его VLAN). Зеркалируйте только порт АТС. На коммутаторе Cisco:",
    ),
    ("{} makes {}: none is missing", "{} → {}: все на месте"),
    ("{} make {}: none is missing", "{} → {}: все на месте"),
    (
        "{} of {} belong to incomplete datagrams, and {} cannot be used",
        "в неполных датаграммах: {}, всего {}, непригодны {}",
    ),
    (
        "{} of {} belongs to incomplete datagrams, and {} cannot be used",
        "в неполных датаграммах: {}, всего {}, непригодны {}",
    ),
    (
        "A long INVITE is lost when one of its fragments is lost. The mirror loses fragments, or some take a second path (a port channel): mirror all members of the channel. If the mirror port is full, mirror less. On a Cisco switch:",
        "Длинный INVITE теряется, если потерян один его фрагмент. Зеркало теряет фрагменты, или часть идёт вторым путём (port channel): зеркалируйте все порты канала. Если порт зеркала переполнен, зеркалируйте меньше. На коммутаторе Cisco:",
    ),
    (
        "{} % of the RTP packets ({}) are missing, and none was lost on this machine",
        "не хватает {} % пакетов RTP ({}), и на этой машине ни один не потерян",
    ),
    (
        "The network or the switch lost them: a mirror port that is slower than the mirrored ports silently drops packets. Check the drop counters of the switch's mirror port, and mirror fewer ports. On a Cisco switch:",
        "Их потеряла сеть или коммутатор: порт зеркала, который медленнее зеркалируемых, молча отбрасывает пакеты. Посмотрите счётчики потерь порта зеркала на коммутаторе и зеркалируйте меньше портов. На коммутаторе Cisco:",
    ),
    ("VLAN tags: {}", "метки VLAN: {}"),
    ("{} in an unsupported kind of tunnel", "в туннеле неподдерживаемого вида: {}"),
    (
        "If the calls are in it, use another kind of mirror. The recorder undoes a plain port, VLAN tags, ERSPAN, GRE, VXLAN, GENEVE, TZSP, L2TP and HP remote mirroring.",
        "Если звонки в нём, возьмите другой вид зеркала. callspan разбирает обычный порт, метки VLAN, ERSPAN, GRE, VXLAN, GENEVE, TZSP, L2TP и удалённое зеркало HP.",
    ),
    ("the mirror uses tunnels: {}", "зеркало использует туннели: {}"),
    ("{} with SIP inside {}, which is not undone", "{} с SIP внутри {}, эта обёртка не снимается"),
    (
        "An agent sends the calls to a Homer server. Let it send them to this machine, too, and set capture.hep_listen to the address and port.",
        "Агент шлёт звонки на сервер Homer. Пусть он шлёт их и на эту машину; задайте адрес и порт в capture.hep_listen.",
    ),
    (
        "Calls in it are not recorded. Use another kind of mirror. The recorder undoes a plain port, VLAN tags, ERSPAN, GRE, VXLAN, GENEVE, TZSP, L2TP and HP remote mirroring.",
        "Звонки в ней не записываются. Возьмите другой вид зеркала. callspan разбирает обычный порт, метки VLAN, ERSPAN, GRE, VXLAN, GENEVE, TZSP, L2TP и удалённое зеркало HP.",
    ),
    ("{} of MACsec, which cannot be read", "MACsec, его нельзя прочитать: {}"),
    (
        "The link between two switches is encrypted and mirrored as it is. Mirror a port behind it: that of the PBX.",
        "Канал между двумя коммутаторами зашифрован и зеркалируется как есть. Зеркалируйте порт за ним: порт АТС.",
    ),
    ("{} of IPsec (ESP), which cannot be read", "IPsec (ESP), его нельзя прочитать: {}"),
    (
        "If telephones or the trunk use that tunnel, mirror behind its end: the port of the PBX itself.",
        "Если через этот туннель идут телефоны или транк, зеркалируйте за его концом: порт самой АТС.",
    ),
    ("tables are full: {}", "таблицы переполнены: {}"),
    (
        "The media of very many calls arrives without their SIP, so recordings may lack the audio before the answer. Mirror the SIP too, or only the ports of the PBX.",
        "Звук очень многих звонков приходит без их SIP, поэтому в записях может не хватать звука до ответа. Зеркалируйте и SIP, или только порты АТС.",
    ),
    (
        "A scanner or a load test floods the mirror with calls. Block it before the PBX.",
        "Сканер или нагрузочный тест заваливает зеркало звонками. Закройте ему путь перед АТС.",
    ),
];

/// Russian texts for phrases that are inserted into findings.
pub(crate) const FINDING_PHRASES: &[(&str, &str)] = &[
    ("healthy", "всё в порядке"),
    ("1 copy", "копий: 1"),
    ("{} copies", "копий: {}"),
    ("needs attention", "требует внимания"),
    ("{} with keys agreed over DTLS", "{} с ключами по DTLS"),
    ("{} with ZRTP", "{} с ZRTP"),
    ("{} with keys that the signalling does not show", "{} с ключами, которых нет в сигнализации"),
    ("{} of key agreement", "согласование ключей: {}"),
    ("{} refused (the call table is full of live calls)", "{}: отказано (таблица полна идущих звонков)"),
    ("{} dropped in favour of newer INVITEs (a flood of INVITEs)", "{}: отброшено ради более новых (поток INVITE)"),
    ("{} refused (more streams than a call can have)", "{}: отказано (потоков больше, чем может быть у звонка)"),
    ("{} of no known call dropped (too many at once)", "{} неизвестных звонков: отброшено (слишком много сразу)"),
    ("{} of TCP streams dropped (too many streams at once)", "{} потоков TCP: отброшено (слишком много потоков сразу)"),
    (
        "{} in fragments dropped (too many fragments at once)",
        "{} по фрагментам: отброшено (слишком много фрагментов сразу)",
    ),
    ("{} with a missing or broken fragment", "{} без фрагмента или с негодным"),
    ("{} that could not be read", "не прочитано: {}"),
    ("{} over TCP too long to be read whole", "{} по TCP: слишком длинно, чтобы прочитать целиком"),
    ("{} cut by the snap length", "обрезано длиной захвата: {}"),
    ("{} with broken headers", "{} с негодными заголовками"),
    ("{} beyond the number of streams that the doctor follows", "сверх числа потоков, за которыми следит доктор: {}"),
    ("{} with one", "{} с одной"),
    ("{} with two", "{} с двумя"),
    ("{} with three or more", "{} с тремя или больше"),
    ("ERSPAN type {} ({})", "ERSPAN типа {} ({})"),
    ("IP in IP ({})", "IP в IP ({})"),
    ("HP remote mirror ({})", "удалённое зеркало HP ({})"),
    ("frames in frames ({})", "кадры в кадрах ({})"),
    ("VN-Tag, E-TAG or Cisco MetaData ({})", "VN-Tag, E-TAG или Cisco MetaData ({})"),
    ("UDP port {}", "порт UDP {}"),
    ("IP protocol {}", "протокол IP {}"),
    ("{} ({})", "{} ({})"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::phrasebook::sources::assert_translated;

    #[test]
    fn findings_with_numbers_and_commands_are_translated() {
        for (english, russian) in [
            ("2 of 22 answered calls had no RTP", "без RTP: 2, всего 22 отвеченных звонка"),
            (
                "SIP is seen in one direction only (for example from 10.0.0.1 to 10.0.0.2); RTP is seen in one direction only",
                "SIP виден только в одном направлении (например от 10.0.0.1 к 10.0.0.2); RTP виден только в одном направлении",
            ),
            (
                "encrypted RTP streams: 2 with keys agreed over DTLS, 1 with ZRTP",
                "зашифрованные потоки RTP: 2 с ключами по DTLS, 1 с ZRTP",
            ),
            (
                "The capture is empty. Capture again, for longer than one call: (Replace eth1 by your mirror port.)",
                "Захват пуст. Запишите снова, дольше одного звонка: (Вместо eth1 подставьте свой порт зеркала.)",
            ),
            (
                "tables are full: 1 unanswered INVITE dropped in favour of newer INVITEs (a flood of INVITEs), 3 frames with broken headers",
                "таблицы переполнены: 1 INVITE без ответа: отброшено ради более новых (поток INVITE), 3 кадра с негодными заголовками",
            ),
            (
                "the mirror uses tunnels: GRE (3 packets), IP in IP (1 packet)",
                "зеркало использует туннели: GRE (3 пакета), IP в IP (1 пакет)",
            ),
            ("VLAN tags: 60 frames with one, 2 frames with two", "метки VLAN: 60 кадров с одной, 2 кадра с двумя"),
        ] {
            assert_eq!(FINDINGS.text(english).as_deref(), Some(russian));
        }
    }

    /// Searches the sources of the rules for string literals of four words or more. Each literal is a finding or a
    /// remedy, so it must have a translation.
    #[test]
    fn every_finding_has_a_translation() {
        let sources = [
            include_str!("rules/machine.rs"),
            include_str!("rules/media.rs"),
            include_str!("rules/topology.rs"),
            include_str!("rules/wire.rs"),
        ];
        assert_translated(&FINDINGS, (&sources, 80), 4, is_other);
    }

    /// Returns whether a string literal needs no translation, because it is a command or only a part of a sentence.
    /// Other tests check the complete sentences.
    fn is_other(literal: &str) -> bool {
        let first = literal.split(' ').next().unwrap_or_default();
        let programs = [
            "tcpdump",
            "ip",
            "ethtool",
            "sed",
            "systemctl",
            "apt-get",
            "timedatectl",
            "asterisk",
            "show",
            "no",
            "monitor",
        ];
        let is_sentence = literal.starts_with("no frame") || literal.starts_with("no call");
        let parts = [
            "; signalling",
            "keys ",
            "{} shorter than 2 s",
            "{} a fax",
            " (for example",
            "{what} is seen",
            ", {} among them",
            "{} ({share:.0} %) {verb} cut",
            "{} shorter than the length",
            "{} {} {whole}: none",
            "{lost} of {} {} to incomplete",
            "VN-Tag, ",
        ];
        programs.contains(&first) && !is_sentence || parts.iter().any(|part| literal.starts_with(part))
    }
}
