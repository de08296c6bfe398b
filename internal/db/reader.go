package db

import "time"

// A Reader shows rows: a unit of work (*Tx) its own, a Query the committed
// ones.
type Reader interface {
	QueryRow(sql string, args ...any) Row
	Rows(sql string, args ...any) (*Rows, error)
	// Written makes sure that what was appended can be read (Tx.Written).
	Written(table string, first ...any) error
}

// Each runs f on every row of a query.
func Each(q Reader, f func(scan func(...any) error) error, sql string, args ...any) error {
	rows, err := q.Rows(sql, args...)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Moment reads a time as columns keep it: UTC microseconds, zero for none.
func Moment(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
