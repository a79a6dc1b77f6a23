use callspan::call::decision::Decision;
use callspan::call::event::*;
use callspan::decode::Datagram;
use callspan::time::Timestamp;
struct S(bool);
impl LegSink for S {
    fn open(&mut self, l: LegId, n: &str) {
        if self.0 {
            println!("  open {l:?} {n}")
        }
    }
    fn packet(&mut self, _: LegId, _: &Datagram<'_>, _: Keep) {}
    fn decide(&mut self, l: LegId, at: Timestamp, d: &Decision) {
        if self.0 && !matches!(d, Decision::End { .. }) {
            println!("  {at} {l:?} {d:?}")
        }
    }
    fn close(&mut self, l: LegId) {
        if self.0 {
            println!("  close {l:?}")
        }
    }
    fn discard(&mut self, l: LegId) {
        if self.0 {
            println!("  discard {l:?}")
        }
    }
}
fn main() {
    let v = std::env::var("V").is_ok();
    for f in std::env::args().skip(1) {
        println!("== {f}");
        let mut src = match callspan::capture::files::open(&[f.clone().into()]) {
            Ok(s) => s,
            Err(e) => {
                println!("{e}");
                continue;
            }
        };
        let mut p = callspan::cmd::pipeline::Pipeline::new(callspan::call::Engine::new(Default::default(), &f));
        let mut s = S(v);
        loop {
            match p.step(&mut src, &mut s) {
                Ok(callspan::cmd::pipeline::Step::More) => {}
                Ok(_) => break,
                Err(e) => {
                    println!("{e}");
                    break;
                }
            }
        }
        p.engine.handle_end_of_capture(&mut s);
        while let Some(e) = p.engine.poll_event() {
            match e {
                CallEvent::Changed(c) => {
                    if v {
                        println!(
                            " changed {:?} {:?} int {:?} ans {:?}",
                            c.record.from, c.record.to, c.record.internal, c.record.answered_at
                        )
                    }
                }
                CallEvent::Ended(e) => {
                    let r = &e.record;
                    println!(
                        " {} {:?} {:?}->{:?} int {:?} {:?} {:?} st {:?} {:?}->{:?} op {:?} verdict {:?} legs {} sounding {:?} ev {:?} rel {:?}",
                        r.id,
                        r.direction,
                        r.from,
                        r.to,
                        r.internal,
                        r.outcome,
                        r.ended_by,
                        r.sip_status,
                        r.answered_at.map(|t| t.as_secs_f64()),
                        r.ended_at.map(|t| t.as_secs_f64()),
                        r.operator_answered_at.map(|t| t.as_secs_f64()),
                        r.verdict,
                        r.legs.len(),
                        e.legs.iter().map(|l| (l.index, l.same_sides)).collect::<Vec<_>>(),
                        r.events.iter().map(|e| (e.kind.clone(), e.side)).collect::<Vec<_>>(),
                        r.related
                    );
                    for (n, s) in [("caller", &r.sides.caller), ("callee", &r.sides.callee)] {
                        println!(
                            "    {n} {:?} pk {} lost {} dup {} reo {} jit {:?} streams {:?}",
                            s.codecs,
                            s.packets,
                            s.lost,
                            s.duplicates,
                            s.reordered,
                            s.max_jitter_ms,
                            s.streams.iter().map(|s| (s.ssrc.clone(), s.pt, s.packets, s.ptime_ms)).collect::<Vec<_>>()
                        );
                    }
                    if v {
                        println!("{}", serde_json::to_string(&r).unwrap())
                    }
                }
            }
        }
        println!("   {:?}", p.engine.counters());
    }
}
