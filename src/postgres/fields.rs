//! The rows of the server's catalog as typed values: a row that is not as expected is an error.

use std::str::FromStr;

use super::connection::Connection;
use crate::error::{Code, Error, Result};

/// The values of one row, read one after the other in the order of the query.
pub struct Fields {
    values: std::vec::IntoIter<Option<String>>,
    read: usize,
}

impl Fields {
    /// The next value, or `None` for NULL.
    ///
    /// # Errors
    /// If the row has no more values.
    pub fn optional(&mut self) -> Result<Option<String>> {
        self.read += 1;
        self.values.next().ok_or_else(|| self.unexpected("value"))
    }

    /// The next value.
    ///
    /// # Errors
    /// If it is NULL or missing.
    pub fn text(&mut self) -> Result<String> {
        self.optional()?.ok_or_else(|| self.unexpected("text"))
    }

    /// The next value as one of another type.
    ///
    /// # Errors
    /// If it is none.
    pub fn parsed<N: FromStr>(&mut self) -> Result<N> {
        self.optional_parsed()?.ok_or_else(|| self.unexpected("such value"))
    }

    /// The next value as one of another type, or `None` for NULL.
    ///
    /// # Errors
    /// If it is neither.
    pub fn optional_parsed<N: FromStr>(&mut self) -> Result<Option<N>> {
        let text = self.optional()?;
        text.map(|t| t.parse().map_err(|_| self.unexpected("such value"))).transpose()
    }

    /// The next value as a boolean.
    ///
    /// # Errors
    /// If it is none.
    pub fn boolean(&mut self) -> Result<bool> {
        match self.text()?.as_str() {
            "t" => Ok(true),
            "f" => Ok(false),
            _ => Err(self.unexpected("boolean")),
        }
    }

    /// The next value as the texts of a JSON array.
    ///
    /// # Errors
    /// If it is none.
    pub fn texts(&mut self) -> Result<Vec<String>> {
        serde_json::from_str(&self.text()?).map_err(|_| self.unexpected("list"))
    }

    fn unexpected(&self, wanted: &str) -> Error {
        let what = format!("the server's answer has no {wanted} in column {}", self.read);
        Error::new(Code::Internal, what)
    }
}

impl Connection {
    /// Runs a query and reads its rows.
    ///
    /// # Errors
    /// If the query fails, or a row is not as `read` expects it.
    pub async fn read<T>(
        &self,
        code: Code,
        what: &str,
        sql: &str,
        read: impl Fn(&mut Fields) -> Result<T>,
    ) -> Result<Vec<T>> {
        let rows = self.rows(code, what, sql).await?.into_iter();
        rows.map(|row| read(&mut Fields { values: row.into_iter(), read: 0 })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(values: &[Option<&str>]) -> Fields {
        let values: Vec<_> = values.iter().map(|v| v.map(str::to_owned)).collect();
        Fields { values: values.into_iter(), read: 0 }
    }

    #[test]
    fn values_are_read_in_order() {
        let mut row = fields(&[Some("a"), None, Some("7"), Some("t"), Some(r#"["x", "y\nz"]"#)]);
        assert_eq!(row.text().unwrap(), "a");
        assert_eq!(row.optional_parsed::<u32>().unwrap(), None);
        assert_eq!(row.parsed::<u32>().unwrap(), 7);
        assert!(row.boolean().unwrap());
        assert_eq!(row.texts().unwrap(), ["x", "y\nz"]);
    }

    #[test]
    fn a_value_of_another_type_is_an_error() {
        let row = || fields(&[Some("x")]);
        assert!(row().parsed::<u32>().is_err());
        assert!(row().boolean().is_err());
        assert!(row().texts().is_err());
        assert!(fields(&[None]).text().is_err());
        let missing = fields(&[]).optional().unwrap_err();
        assert_eq!(missing.full(), "the server's answer has no value in column 1");
    }
}
