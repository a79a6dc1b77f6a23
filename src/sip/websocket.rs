//! WebSocket frames (RFC 6455) that carry SIP (RFC 7118).
