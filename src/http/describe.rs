//! The description of all this for programs: `OpenAPI`, written by hand. The tests hold it to the
//! service: they check every answer they get against it.

use warp::reply::Response;

use super::answer::json;
use super::params;
use super::problem::Problem;

pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// `GET /v1/openapi.json`.
pub(super) fn openapi(raw: &str) -> Result<Response, Problem> {
    params::none(raw)?;
    Ok(json(OPENAPI.into()))
}
