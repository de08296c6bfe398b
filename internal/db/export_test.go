package db

// Numbered gives the tests the parameter rewriting.
var Numbered = numbered

// Pragma runs a statement on the writer's connection between batches.
func Pragma(s *Store, sql string) error {
	_, err := s.w.conn.query(background, sql, nil)
	return err
}

// BlockWriter holds the writer inside a unit until release is closed.
func BlockWriter(s *Store) (release chan<- struct{}, blocked <-chan struct{}) {
	in, out := make(chan struct{}), make(chan struct{})
	go func() {
		_ = s.Write(background, func(*Tx) error {
			close(in)
			<-out
			return nil
		})
	}()
	return out, in
}

// Queued is how many units wait for the writer.
func Queued(s *Store) int {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return len(s.w.queue)
}
