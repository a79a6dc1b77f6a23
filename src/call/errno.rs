//! Names of operating system errors, as in errno(3). A call record names the disk error by which sound was lost.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Number of an operating system error (errno). Its JSON form is the symbol, e.g. `EMFILE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OsErrno(pub i32);

impl OsErrno {
    /// Returns the symbol of the error number; `None` if the table below does not contain the number.
    pub(crate) fn symbol(self) -> Option<&'static str> {
        SYMBOLS.iter().find(|(number, _)| *number == self.0).map(|(_, symbol)| *symbol)
    }

    /// Returns whether the disk is full or accepts no writes.
    pub(crate) const fn is_disk_full(self) -> bool {
        matches!(self.0, ENOSPC | EDQUOT | EROFS)
    }
}

impl std::fmt::Display for OsErrno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.symbol() {
            Some(symbol) => f.write_str(symbol),
            None => write!(f, "{}", self.0),
        }
    }
}

impl std::str::FromStr for OsErrno {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match SYMBOLS.iter().find(|(_, symbol)| *symbol == text) {
            Some((number, _)) => Ok(Self(*number)),
            None => text.parse().map(Self),
        }
    }
}

impl Serialize for OsErrno {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OsErrno {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // A record of another version may name an error that the table does not contain. Such an error becomes the
        // number 0.
        Ok(text.parse().unwrap_or(Self(0)))
    }
}

// Error numbers of Linux on the architectures of callspan (asm-generic/errno-base.h and errno.h).
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

/// Numbers and symbols of the errors that file operations return (open(2), write(2), fsync(2), rename(2)).
const SYMBOLS: [(i32, &str); 24] = [
    (1, "EPERM"),
    (2, "ENOENT"),
    (4, "EINTR"),
    (5, "EIO"),
    (6, "ENXIO"),
    (9, "EBADF"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (19, "ENODEV"),
    (20, "ENOTDIR"),
    (21, "EISDIR"),
    (22, "EINVAL"),
    (23, "ENFILE"),
    (24, "EMFILE"),
    (27, "EFBIG"),
    (ENOSPC, "ENOSPC"),
    (EROFS, "EROFS"),
    (32, "EPIPE"),
    (110, "ETIMEDOUT"),
    (116, "ESTALE"),
    (EDQUOT, "EDQUOT"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_keeps_its_number_through_text() {
        for number in [24, 28, 5, 9_999] {
            let text = OsErrno(number).to_string();
            assert_eq!(text.parse(), Ok(OsErrno(number)), "{text}");
        }
        assert_eq!(OsErrno(24).to_string(), "EMFILE");
        assert_eq!(OsErrno::from_str_lossy("EWHATEVER"), OsErrno(0));
    }

    impl OsErrno {
        fn from_str_lossy(text: &str) -> Self {
            serde_json::from_value(serde_json::Value::from(text)).expect("any text is read")
        }
    }
}
