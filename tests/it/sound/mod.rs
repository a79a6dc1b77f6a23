//! Tests of whole synthetic calls through engine, spool and rendering: the content of the recording, and its times.

mod bounds;
mod clock;
mod field;
mod formats;
mod hours;
mod long;
mod malformed_rtp;
mod opus;
mod pause;
mod restart;
mod score;
mod srtp;
mod srtp_form;
mod srtp_form_codecs;
mod wide;
