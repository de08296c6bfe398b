package market

import "koala/calendar"

// FileOf is an institution's clearing file as it made it.
func (m *Market) FileOf(name string, day calendar.Date) ([]byte, error) {
	return m.abroad[name].host.ClearingFile(day)
}
