//! Checks a plugin's answers against the contract. It makes no difference whether a component or a
//! script answered.

use host_workspace::{ActionError, Issue, Parsed};
use serde::de::IgnoredAny;

use crate::call::Ended;
use crate::limits::Limits;

/// The result of an action: JSON within the size limit.
pub(crate) fn result(
    result: Result<String, ActionError>,
    limits: &Limits,
) -> Result<Result<String, ActionError>, Ended> {
    let limit = limits.result_bytes;
    match result {
        Ok(result) if result.len() > limit => Err(Ended::Breach(format!(
            "the result has {} bytes; {limit} is the most",
            result.len()
        ))),
        Ok(result) => match serde_json::from_str::<IgnoredAny>(&result) {
            Ok(_) => Ok(Ok(result)),
            Err(error) => Err(Ended::Breach(format!("the result is not JSON: {error}"))),
        },
        Err(error) => Ok(Err(refusal(error, limits))),
    }
}

/// The results for rows, one for each.
pub(crate) fn rows(parsed: Vec<Parsed>, due: usize, limits: &Limits) -> Result<Vec<Parsed>, Ended> {
    if parsed.len() != due {
        return Err(Ended::Breach(format!(
            "it answered {} results for {due} rows; one for each is due",
            parsed.len()
        )));
    }
    Ok(parsed.into_iter().map(|parsed| value(parsed, limits)).collect())
}

/// The result for one value.
pub(crate) fn value(parsed: Parsed, limits: &Limits) -> Parsed {
    let limit = limits.row_bytes;
    match parsed {
        Ok(value) if value.len() > limit => Err(vec![Issue::whole(format!(
            "the plugin made {} bytes of JSON of it; {limit} is the most",
            value.len()
        ))]),
        Ok(value) => Ok(value),
        Err(issues) => Err(bounded(issues, limits)),
    }
}

/// Why a change or an action was refused.
pub(crate) fn refusal(error: ActionError, limits: &Limits) -> ActionError {
    match error {
        ActionError::Invalid(issues) => ActionError::Invalid(bounded(issues, limits)),
        other => other,
    }
}

fn bounded(mut issues: Vec<Issue>, limits: &Limits) -> Vec<Issue> {
    issues.truncate(limits.issues);
    if issues.is_empty() {
        issues.push(Issue::whole("the plugin refused it and gave no reason"));
    }
    issues
}
