package workspace

import (
	"fmt"
	"strings"

	"epicenter.dev/workspace/internal/contract"
)

// ListOption says which rows a list has, and in which order: a [Filter], [Sort], [Limit] or [After].
type ListOption interface {
	apply(selection *contract.Selection) error
}

// Filter is a condition on a member of a row, by its name in JSON. All that are given must hold.
type Filter struct {
	field    string
	operator contract.Operator
	value    any
}

// Eq holds where the member equals the value.
func Eq(field string, value any) Filter { return Filter{field, contract.Eq, value} }

// Ne holds where the member differs from the value.
func Ne(field string, value any) Filter { return Filter{field, contract.Ne, value} }

// Gt holds where the member is greater than the value.
func Gt(field string, value any) Filter { return Filter{field, contract.Gt, value} }

// Gte holds where the member is the value or greater.
func Gte(field string, value any) Filter { return Filter{field, contract.Gte, value} }

// Lt holds where the member is less than the value.
func Lt(field string, value any) Filter { return Filter{field, contract.Lt, value} }

// Lte holds where the member is the value or less.
func Lte(field string, value any) Filter { return Filter{field, contract.Lte, value} }

// In holds where the member equals one of the values.
func In[T any](field string, values ...T) Filter {
	return Filter{field, contract.In, append([]T{}, values...)}
}

// Contains holds where a string has the value in it, or a list among its items.
func Contains(field string, value any) Filter { return Filter{field, contract.Contains, value} }

// Prefix holds where a string begins with the value.
func Prefix(field, value string) Filter { return Filter{field, contract.Prefix, value} }

// Exists holds where the row has the member at all, or where it has not; null counts as a value.
func Exists(field string, exists bool) Filter { return Filter{field, contract.Exists, exists} }

func (f Filter) apply(selection *contract.Selection) error {
	value, err := toJSON(f.value)
	if err != nil {
		return fmt.Errorf("the filter of %s: %w", f.field, err)
	}
	selection.Filters = append(selection.Filters, contract.Filter{Field: f.field, Operator: f.operator, Value: value})
	return nil
}

type listOption func(*contract.Selection)

func (o listOption) apply(selection *contract.Selection) error {
	o(selection)
	return nil
}

// Sort orders by members, the first one first: "title", or "-views" for the largest first.
func Sort(fields ...string) ListOption {
	return listOption(func(selection *contract.Selection) {
		for _, field := range fields {
			name, descending := strings.CutPrefix(field, "-")
			selection.Sort = append(selection.Sort, contract.Order{Field: name, Descending: descending})
		}
	})
}

// Limit gives at most so many rows.
func Limit(rows uint32) ListOption {
	return listOption(func(selection *contract.Selection) { selection.Limit = rows })
}

// After goes on where the page with this cursor ended.
func After(cursor string) ListOption {
	return listOption(func(selection *contract.Selection) { selection.Cursor = cursor })
}

func selectionOf(options []ListOption) (contract.Selection, error) {
	var selection contract.Selection
	for _, option := range options {
		if err := option.apply(&selection); err != nil {
			return selection, err
		}
	}
	return selection, nil
}

func filtersOf(filters []Filter) ([]contract.Filter, error) {
	var selection contract.Selection
	for _, filter := range filters {
		if err := filter.apply(&selection); err != nil {
			return nil, err
		}
	}
	return selection.Filters, nil
}
