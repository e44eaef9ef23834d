package workspace

import (
	"time"

	"epicenter.dev/workspace/internal/contract"
)

// Account is the account on whose behalf the host calls. Email and Name are empty when they are not known.
type Account = contract.Account

// Caller is who called; nil while the host runs without accounts.
func Caller() *Account { return contract.Current.Caller() }

// RequireCaller is who called, or [ErrDenied] for a call without an account.
func RequireCaller() (*Account, error) {
	if caller := Caller(); caller != nil {
		return caller, nil
	}
	return nil, Denied("sign in to do this")
}

// Environment is a value of the host's environment, in plugins whose manifest names it under `env`; not found
// when the host has none of that name, and [ErrDenied] when the manifest does not name it.
//
//	key, found, err := workspace.Environment("WEATHER_KEY")
func Environment(name string) (value string, found bool, err error) {
	text, err := contract.Current.Environment(name)
	if err != nil || text == nil {
		return "", false, err
	}
	return *text, true, nil
}

// Now is the time, in ms; the same during one call.
func Now() time.Time { return time.UnixMilli(int64(contract.Current.Now())).UTC() }

// RandomID is a new random id: 21 characters from [A-Za-z0-9_-], 126 bits.
func RandomID() string { return contract.Current.RandomID() }

// RandomUint64 is 64 random bits, from the system's secure source.
func RandomUint64() uint64 { return contract.Current.RandomUint64() }

// RequestID names the request that this call serves; the same as in the host's log.
func RequestID() string { return contract.Current.RequestID() }
