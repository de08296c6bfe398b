package db

import (
	"context"
	"fmt"
	"sync"
)

// A Row is the first row of a query, or none.
type Row struct {
	vals []any
	err  error
}

// Scan puts the columns into what dest points to: numbers, strings, booleans,
// []byte, byte arrays of the exact length, types made of them, and pointers to
// them for columns that may be NULL. It returns ErrNoRows when there is no row.
func (r Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	return scan(r.vals, dest)
}

func scan(vals, dest []any) error {
	if len(vals) != len(dest) {
		return fmt.Errorf("%w: %d columns into %d variables", ErrValue, len(vals), len(dest))
	}
	for i, v := range vals {
		if err := assign(dest[i], v); err != nil {
			return fmt.Errorf("column %d: %w", i+1, err)
		}
	}
	return nil
}

// Rows are the rows of a query, read completely before the first is handed
// out: page through large tables by key.
type Rows struct {
	res *result
	at  int // the row after the present one
	err error
}

// Next moves to the next row.
func (r *Rows) Next() bool {
	if r.err != nil || r.res.width == 0 || r.at*r.res.width >= len(r.res.vals) {
		return false
	}
	r.at++
	return true
}

// Scan puts the present row's columns into dest, as Row.Scan does.
func (r *Rows) Scan(dest ...any) error {
	err := scan(r.res.vals[(r.at-1)*r.res.width:r.at*r.res.width], dest)
	if err != nil && r.err == nil {
		r.err = err
	}
	return err
}

// Err is the first error of a Scan.
func (r *Rows) Err() error { return r.err }

// Close is there so that code reads as usual; the rows hold nothing open.
func (r *Rows) Close() error { return nil }

// Len is the number of rows.
func (r *Rows) Len() int {
	if r.res.width == 0 {
		return 0
	}
	return len(r.res.vals) / r.res.width
}

func firstRow(res *result, err error) Row {
	switch {
	case err != nil:
		return Row{err: err}
	case len(res.vals) == 0:
		return Row{err: ErrNoRows}
	}
	return Row{vals: res.vals[:res.width]}
}

// A Query reads committed rows; all its statements see the same moment.
type Query struct {
	ctx context.Context
	c   conn
}

// QueryRow returns the first row.
func (q *Query) QueryRow(sql string, args ...any) Row {
	res, err := q.c.query(q.ctx, sql, args)
	if err != nil {
		err = q.c.place(err)
	}
	return firstRow(res, err)
}

// Rows returns all rows.
func (q *Query) Rows(sql string, args ...any) (*Rows, error) {
	res, err := q.c.query(q.ctx, sql, args)
	if err != nil {
		return nil, q.c.place(err)
	}
	return &Rows{res: res}, nil
}

// Written is nil: what can be read is durable, and whole.
func (q *Query) Written(string, ...any) error { return nil }

// Read runs f on a connection that cannot write and sees one committed moment.
func (s *Store) Read(ctx context.Context, f func(q *Query) error) error {
	c, err := s.readers.take(ctx)
	if err != nil {
		return err
	}
	done := false
	defer func() { // also when f panics
		if !done || c.rollback() != nil || c.lost() {
			s.readers.drop(c)
			return
		}
		s.readers.give(c)
	}()
	if err := c.begin(); err != nil {
		return c.place(err)
	}
	err = f(&Query{ctx: ctx, c: c})
	done = true
	return err
}

// maxReaders bounds the read connections: each costs 140 KB on SQLite and a
// server process on PostgreSQL.
const maxReaders = 8

// A pool keeps read connections.
type pool struct {
	eng  engine
	seat chan struct{} // one token per connection that may be open
	mu   sync.Mutex
	idle []conn
	shut bool
}

func newPool(eng engine) *pool {
	return &pool{eng: eng, seat: make(chan struct{}, maxReaders)}
}

func (p *pool) take(ctx context.Context) (conn, error) {
	select {
	case p.seat <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a read connection: %w", ctx.Err())
	}
	p.mu.Lock()
	if p.shut {
		p.mu.Unlock()
		<-p.seat
		return nil, ErrClosed
	}
	for n := len(p.idle); n > 0; n-- {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		if c.fresh() {
			p.mu.Unlock()
			return c, nil
		}
		c.close()
	}
	p.mu.Unlock()
	c, err := p.eng.connect(ctx, reading)
	if err != nil {
		<-p.seat
		return nil, err
	}
	return c, nil
}

func (p *pool) give(c conn) {
	p.mu.Lock()
	shut := p.shut
	if !shut {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	if shut {
		c.close()
	}
	<-p.seat
}

// drop closes a connection and, since a server that restarts breaks all its
// connections at once, the idle ones with it.
func (p *pool) drop(c conn) {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	c.close()
	for _, c := range idle {
		c.close()
	}
	<-p.seat
}

func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.shut = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
	for range maxReaders { // readers under way finish first
		p.seat <- struct{}{}
	}
	for range maxReaders { // late ones get ErrClosed
		<-p.seat
	}
}
