//! Moments and spans as Postgres sends them: microseconds, infinities included, which chrono cannot hold.

use std::error::Error;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// A `timestamptz`: microseconds since 2000-01-01 UTC; the extremes are the infinities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

impl Moment {
    /// Before every other moment.
    pub const NEG_INFINITY: Self = Self(i64::MIN);

    /// After every other moment.
    pub const INFINITY: Self = Self(i64::MAX);

    /// From microseconds since 1970.
    pub fn from_unix_micros(micros: i64) -> Self {
        Self(micros.saturating_sub(946_684_800_000_000))
    }

    /// From `earlier` to this moment; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// So much earlier.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.as_micros() as i64))
    }

    /// So much later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_micros() as i64))
    }

    /// Microseconds since 1970.
    pub fn unix_micros(self) -> i64 {
        self.0.saturating_add(946_684_800_000_000)
    }
}

impl<'a> FromSql<'a> for Moment {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

impl ToSql for Moment {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

/// An `interval`, months counted as 30 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval(pub(super) Duration);

impl<'a> FromSql<'a> for Interval {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let (micros, rest) = raw.split_first_chunk::<8>().ok_or("an interval has 16 bytes")?;
        let (days, rest) = rest.split_first_chunk::<4>().ok_or("an interval has 16 bytes")?;
        let months = i64::from(i32::from_be_bytes(rest.try_into()?));
        let days = i64::from(i32::from_be_bytes(*days)) + months * 30;
        let micros = i64::from_be_bytes(*micros).saturating_add(days.saturating_mul(86_400_000_000));
        Ok(Self(Duration::from_micros(micros.max(0) as u64)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::INTERVAL
    }
}

impl ToSql for Interval {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(i64::try_from(self.0.as_micros())?);
        out.put_i64(0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::INTERVAL
    }

    to_sql_checked!();
}

/// The text of a `jsonb`, without parsing it.
#[derive(Debug)]
pub(super) struct JsonText<'a>(pub(super) &'a str);

impl<'a> FromSql<'a> for JsonText<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        match raw.split_first() {
            _ if *ty == Type::JSON => Ok(Self(std::str::from_utf8(raw)?)),
            Some((1, text)) => Ok(Self(std::str::from_utf8(text)?)),
            _ => Err("a jsonb of an unknown version".into()),
        }
    }

    fn accepts(ty: &Type) -> bool {
        [Type::JSON, Type::JSONB].contains(ty)
    }
}

impl ToSql for JsonText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u8(1);
        out.put_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_between_moments_never_overflow() {
        assert_eq!(Moment(5).since(Moment(3)), Duration::from_micros(2));
        assert_eq!(Moment(3).since(Moment(5)), Duration::ZERO);
        assert_eq!(Moment(i64::MAX).since(Moment::NEG_INFINITY), Duration::from_micros(i64::MAX as u64));
    }
}
