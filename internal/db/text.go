package db

import (
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// numbered rewrites $N to ?N, which SQLite binds by number ($N it binds by
// first appearance), and returns the highest N. The next higher number is a
// plain ?, which means the same and has no name: the driver looks every name up
// at every execution. Quoted text and comments stay as they are.
func numbered(sql string) (lite string, params int) {
	var b strings.Builder
	for i := 0; i < len(sql); {
		if n := skipped(sql[i:]); n > 0 {
			b.WriteString(sql[i : i+n])
			i += n
			continue
		}
		c := sql[i]
		i++
		if c != '$' || i == len(sql) || sql[i] < '1' || sql[i] > '9' {
			b.WriteByte(c)
			continue
		}
		n, from := 0, i
		for i < len(sql) && sql[i] >= '0' && sql[i] <= '9' && n < maxParams {
			n = n*10 + int(sql[i]-'0')
			i++
		}
		b.WriteByte('?')
		if n != params+1 {
			b.WriteString(sql[from:i])
		}
		params = max(params, n)
	}
	return b.String(), params
}

// maxParams bounds a parameter number: SQLite and PostgreSQL take 32,766 and 65,535.
const maxParams = 32_766

// skipped returns the length of the quoted text or comment that sql begins
// with, or 0.
func skipped(sql string) int {
	end := ""
	switch {
	case sql[0] == '\'':
		end = "'"
	case sql[0] == '"':
		end = `"`
	case strings.HasPrefix(sql, "--"):
		end = "\n"
	case strings.HasPrefix(sql, "/*"):
		end = "*/"
	default:
		return 0
	}
	from := min(len(sql), len(end)) // a quote opens with one sign, /* with two
	at := strings.Index(sql[from:], end)
	if at < 0 {
		return len(sql)
	}
	return from + at + len(end)
}

// counted refuses surplus and missing arguments, which the drivers treat
// differently.
func counted(sql string, params, args int) error {
	if params != args {
		return fmt.Errorf("%w: %d arguments for %d parameters in %.60q", ErrSQL, args, params, sql)
	}
	return nil
}

// plain turns an argument into what both stores keep: int64, float64, bool,
// string, []byte or nil. A named type is taken as what it is made of.
func plain(arg any) (any, error) {
	switch v := arg.(type) {
	case nil, int64, bool, float64:
		return v, nil
	case string:
		return text(v)
	case []byte:
		if v == nil {
			return nil, nil
		}
		return v, nil
	case int:
		return int64(v), nil
	case uint32:
		return int64(v), nil
	case uint16:
		return int64(v), nil
	}
	return reflected(arg)
}

// text refuses what PostgreSQL cannot keep, on both stores alike.
func text(s string) (any, error) {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		return nil, ErrText
	}
	return s, nil
}

func reflected(arg any) (any, error) {
	v := reflect.ValueOf(arg)
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil, nil
		}
		return plain(v.Elem().Interface())
	case reflect.String:
		return text(v.String())
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if u := v.Uint(); u <= 1<<63-1 {
			return int64(u), nil
		}
		return nil, fmt.Errorf("%w: the unsigned number is too large", ErrValue)
	case reflect.Float32, reflect.Float64:
		return v.Float(), nil
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return plain(v.Bytes())
		}
	}
	return nil, fmt.Errorf("%w: %T", ErrValue, arg)
}

// assign puts a column's value into what dest points to.
func assign(dest, val any) error {
	switch d := dest.(type) {
	case *any:
		*d = val
		return nil
	case *int64:
		if v, ok := val.(int64); ok {
			*d = v
			return nil
		}
	case *string:
		if v, ok := val.(string); ok {
			*d = v
			return nil
		}
	case *[]byte:
		switch v := val.(type) {
		case nil:
			*d = nil
			return nil
		case []byte:
			if *d = v; v == nil { // an empty value is not NULL
				*d = []byte{}
			}
			return nil
		case string: // SQLite gives rows from before an ADD COLUMN the text of its DEFAULT ''
			if v == "" {
				*d = []byte{}
				return nil
			}
		}
	case *bool:
		switch v := val.(type) {
		case bool:
			*d = v
			return nil
		case int64:
			*d = v != 0
			return nil
		}
	}
	return assignReflected(reflect.ValueOf(dest), val)
}

func assignReflected(dest reflect.Value, val any) error {
	if dest.Kind() != reflect.Pointer || dest.IsNil() {
		return fmt.Errorf("%w: scanning into %s, which is no pointer", ErrValue, dest.Kind())
	}
	to := dest.Elem()
	if to.Kind() == reflect.Pointer { // a column that may be NULL
		if val == nil {
			to.SetZero()
			return nil
		}
		fresh := reflect.New(to.Type().Elem())
		if err := assign(fresh.Interface(), val); err != nil {
			return err
		}
		to.Set(fresh)
		return nil
	}
	if fits(to, val) {
		return nil
	}
	return fmt.Errorf("%w: a column with %T does not fit %s", ErrValue, val, to.Type())
}

func fits(to reflect.Value, val any) bool {
	switch v := val.(type) {
	case int64:
		switch {
		case to.CanInt() && !to.OverflowInt(v):
			to.SetInt(v)
		case to.CanUint() && v >= 0 && !to.OverflowUint(uint64(v)):
			to.SetUint(uint64(v))
		case to.Kind() == reflect.Bool:
			to.SetBool(v != 0)
		case to.CanFloat():
			to.SetFloat(float64(v))
		default:
			return false
		}
		return true
	case string:
		if to.Kind() == reflect.String {
			to.SetString(v)
			return true
		}
	case bool:
		if to.Kind() == reflect.Bool {
			to.SetBool(v)
			return true
		}
	case float64:
		if to.CanFloat() {
			to.SetFloat(v)
			return true
		}
	case []byte:
		return fitsBytes(to, v)
	}
	return false
}

// fitsBytes fills byte arrays of exactly the column's length and byte slices.
func fitsBytes(to reflect.Value, v []byte) bool {
	switch {
	case to.Kind() == reflect.Array && to.Type().Elem().Kind() == reflect.Uint8 && to.Len() == len(v):
		reflect.Copy(to, reflect.ValueOf(v))
		return true
	case to.Kind() == reflect.Slice && to.Type().Elem().Kind() == reflect.Uint8:
		to.SetBytes(append([]byte{}, v...))
		return true
	}
	return false
}
