//! `?filter=`: which of the results are shown.

use serde::Serialize;

use super::error::Error;
use super::request::Params;
use crate::filter::Filter;
use crate::filter::schema::Schema;

/// The request's filter, if it has one. In a box: most that wait have none.
pub(super) struct Chosen(Option<Box<Filter>>);

impl Chosen {
    /// # Errors
    /// 500 with what is wrong with the expression, and where, as Consul answers.
    pub(super) fn by(params: &Params, schema: &Schema) -> Result<Self, Error> {
        let Some(text) = params.given("filter") else {
            return Ok(Self(None));
        };
        let filter = Filter::new(text, schema).map_err(|error| {
            Error::internal(format!(
                "Failed to create boolean expression evaluator: {error}"
            ))
        })?;
        Ok(Self(Some(Box::new(filter))))
    }

    /// Whether this one is shown. Without a filter nothing is looked at.
    pub(super) fn shows<T: Serialize>(&self, entry: &T) -> bool {
        let Some(filter) = &self.0 else {
            return true;
        };
        let value = serde_json::to_value(entry).expect("every value of this API has a JSON form");
        filter.keeps(&value)
    }

    /// Those that are shown.
    pub(super) fn of<T: Serialize>(&self, entries: impl IntoIterator<Item = T>) -> Vec<T> {
        entries
            .into_iter()
            .filter(|entry| self.shows(entry))
            .collect()
    }

    /// Whether all are.
    pub(super) fn is_everything(&self) -> bool {
        self.0.is_none()
    }
}
