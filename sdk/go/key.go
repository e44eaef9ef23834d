package workspace

import (
	"epicenter.dev/workspace/internal/contract"
)

// Key is a single value of the workspace, of type T, under a key.
type Key[T any] struct {
	key      string
	settings settings[T]
}

// NewKey makes a key by the type of its value.
func NewKey[T any](key string, options ...Option[T]) *Key[T] {
	made := &Key[T]{key: key, settings: configured("key "+key, options)}
	if made.settings.check != nil {
		broken("key %s: changes of tables can be checked, those of keys cannot", key)
	}
	return made
}

// Get gives the value, if it was ever set.
func (k *Key[T]) Get() (value T, found bool, err error) {
	text, err := contract.Current.KeyGet(k.key)
	if err != nil || text == nil {
		return value, false, err
	}
	value, err = readAs[T](k.settings.current, *text)
	return value, err == nil, err
}

// GetOr gives the value, or another where it was never set.
func (k *Key[T]) GetOr(otherwise T) (T, error) {
	value, found, err := k.Get()
	if err == nil && !found {
		value = otherwise
	}
	return value, err
}

// Set sets the value; [ErrInvalid] when a rule refuses it.
func (k *Key[T]) Set(value T) error {
	text, err := k.settings.current.write(nil, valueOf(value))
	if err != nil {
		return err
	}
	return contract.Current.KeySet(k.key, string(text))
}

// Delete forgets the value; false when there was none.
func (k *Key[T]) Delete() (bool, error) { return contract.Current.KeyDelete(k.key) }

// AnyKey is a key with whatever value.
type AnyKey interface {
	define() contract.Key
	parse(value string) (string, error)
}

func (k *Key[T]) define() contract.Key {
	return contract.Key{Key: k.key, Versions: k.settings.schemas(false)}
}

func (k *Key[T]) parse(value string) (string, error) { return k.settings.parseValue(value) }
