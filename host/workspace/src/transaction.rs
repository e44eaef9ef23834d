//! Reads and writes of one call over one workspace.
#![allow(unused_variables, missing_docs)]

use std::sync::Arc;

use serde_json::Value;

use crate::definition::Caller;
use crate::logic::ActionError;

pub struct Transaction {}

#[derive(Debug, Clone, Default)]
pub struct Query {
    pub filters: Vec<Filter>,
    pub sort: Vec<Order>,
    pub limit: Option<u32>,
    pub cursor: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Filter {
    pub field: String,
    pub operator: Operator,
    pub value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
    In,
    Contains,
    Prefix,
    Exists,
}

#[derive(Debug, Clone)]
pub struct Order {
    pub field: String,
    pub descending: bool,
}

#[derive(Debug, Clone)]
pub struct Page {
    pub rows: Vec<String>,
    pub next: Option<String>,
}

impl Transaction {
    pub fn get(&self, table: &str, id: &str) -> Result<Option<String>, ActionError> {
        unreachable!("stub")
    }
    pub fn list(&self, table: &str, query: &Query) -> Result<Page, ActionError> {
        unreachable!("stub")
    }
    pub fn count(&self, table: &str, filters: &[Filter]) -> Result<u64, ActionError> {
        unreachable!("stub")
    }
    pub async fn put(self: &Arc<Self>, table: &str, row: &str) -> Result<String, ActionError> {
        unreachable!("stub")
    }
    pub async fn update(
        self: &Arc<Self>,
        table: &str,
        id: &str,
        fields: &str,
    ) -> Result<String, ActionError> {
        unreachable!("stub")
    }
    pub async fn delete(self: &Arc<Self>, table: &str, id: &str) -> Result<bool, ActionError> {
        unreachable!("stub")
    }
    pub fn kv_get(&self, key: &str) -> Result<Option<String>, ActionError> {
        unreachable!("stub")
    }
    pub async fn kv_set(self: &Arc<Self>, key: &str, value: &str) -> Result<(), ActionError> {
        unreachable!("stub")
    }
    pub async fn kv_delete(self: &Arc<Self>, key: &str) -> Result<bool, ActionError> {
        unreachable!("stub")
    }
    pub fn caller(&self) -> Option<&Caller> {
        unreachable!("stub")
    }
    /// Unix ms, fixed for the call.
    pub fn now(&self) -> u64 {
        unreachable!("stub")
    }
    pub fn request_id(&self) -> &str {
        unreachable!("stub")
    }
}
