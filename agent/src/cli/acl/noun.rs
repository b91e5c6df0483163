//! What is done with rows of every kind, in the same words.

use serde_json::{Map, Value};

use super::super::{Done, Failure, Io};
use super::{Call, FormatFlags};
use crate::client::escape_path;

/// How a row, or one of a list, is shown: with indexes and hashes, or without.
pub(super) type Shown = fn(&Value, bool) -> String;

/// A kind of row.
pub(super) struct Noun {
    /// As it stands in a sentence: `binding rule`.
    pub(super) name: &'static str,
    /// Where they are made: `/v1/acl/binding-rule`. Each is behind that.
    pub(super) path: &'static str,
    /// How one is shown.
    pub(super) pretty: Shown,
}

impl Noun {
    fn path_of(&self, id: &str) -> String {
        format!("{}/{}", self.path, escape_path(id))
    }

    pub(super) async fn create(
        &self,
        row: Map<String, Value>,
        call: &Call<'_>,
        format: &FormatFlags,
        io: &mut Io<'_>,
    ) -> Done {
        let failed = format!("Failed to create new {}", self.name);
        let row = call.put(self.path, &Value::Object(row), &failed).await?;
        format.print(&row, io, self.pretty)
    }

    /// Those that are at `path`, each as `shown` shows it.
    pub(super) async fn list(
        &self,
        path: &str,
        shown: Shown,
        call: &Call<'_>,
        format: &FormatFlags,
        io: &mut Io<'_>,
    ) -> Done {
        let failed = format!("Failed to retrieve the {} list", self.name);
        let rows = call.get(path, &failed).await?;
        format.print(&rows, io, shown)
    }

    pub(super) async fn read(
        &self,
        id: &str,
        call: &Call<'_>,
        format: &FormatFlags,
        io: &mut Io<'_>,
    ) -> Done {
        let failed = format!("Error reading {} {id:?}", self.name);
        let row = call.get(&self.path_of(id), &failed).await?;
        format.print(&row, io, self.pretty)
    }

    pub(super) async fn delete(&self, id: &str, call: &Call<'_>, io: &mut Io<'_>) -> Done {
        let failed = format!("Error deleting {} {id:?}", self.name);
        call.delete(&self.path_of(id), &failed).await?;
        let (first, rest) = self.name.split_at(1);
        let first = first.to_uppercase();
        writeln!(io.out, "{first}{rest} {id:?} deleted successfully")?;
        Ok(0)
    }

    /// A row as it is now, for an update to change.
    pub(super) async fn current(
        &self,
        id: &str,
        call: &Call<'_>,
    ) -> Result<Map<String, Value>, Failure> {
        let failed = format!("Error when retrieving current {}", self.name);
        match call.get(&self.path_of(id), &failed).await? {
            Value::Object(row) => Ok(row),
            _ => Err(Failure::Message(failed)),
        }
    }

    /// Puts a row in the place of what is there.
    pub(super) async fn update(
        &self,
        id: &str,
        row: Map<String, Value>,
        call: &Call<'_>,
        format: &FormatFlags,
        io: &mut Io<'_>,
    ) -> Done {
        let failed = format!("Error updating {} {id:?}", self.name);
        let row = Value::Object(row);
        let row = call.put(&self.path_of(id), &row, &failed).await?;
        format.print(&row, io, self.pretty)
    }
}
