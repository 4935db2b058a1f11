package clustertest

import (
	"fmt"
	"time"
)

// member lets one more node join, or has one leave for good.
func (s *story) member(m *Member) {
	if s.rnd.IntN(2) == 0 {
		s.leave(m)
		return
	}
	if s.joined == 2 {
		return
	}
	s.joined++
	joins := s.c.Join(fmt.Sprintf("new%d", s.joined))
	s.note("joins: %s", joins.ID)
	s.stats.Add("member: joins", 1)
}

// away is how many members cannot do their part.
func (s *story) away() int {
	if s.leaving != nil {
		return len(s.broken) + 1
	}
	return len(s.broken)
}

// leave turns a node off for good, one at a time, and has an operator remove it, who
// tries until it is done.
func (s *story) leave(m *Member) {
	_, broken := s.broken[m]
	back := s.rnd.IntN(4)
	if broken || s.leaving != nil || len(s.c.members()) < 4 || !s.c.canSpare(m) {
		return
	}
	s.note("leaves: %s", m.ID)
	s.stats.Add("member: leaves", 1)
	s.leaving = m
	s.c.PowerOff(m)
	s.unstick(m)
	s.operator.Go(func() {
		if err := s.c.Remove(m); err != nil {
			s.t.Error(err)
			return
		}
		s.note("removed: %s", m.ID)
		s.stats.Add("member: removed", 1)
		s.left <- departure{m, back}
	})
}

// departure is a member that was removed, and how it comes back.
type departure struct {
	member *Member
	back   int
}

// comeBack starts a node again that was removed: as a new one with an empty disk, or
// with the disk that it had, which locks it out; or never.
func (s *story) comeBack() {
	select {
	case d := <-s.left:
		s.leaving = nil
		switch d.back {
		case 0:
			s.note("comes back with the disk that it had: %s", d.member.ID)
			s.stats.Add("member: comes back with its old disk", 1)
		case 1:
			s.note("comes back with an empty disk: %s", d.member.ID)
			s.stats.Add("member: comes back with an empty disk", 1)
			d.member.disk.wipe()
		default:
			return
		}
		s.c.comeBack(d.member)
	default:
	}
}

// admit empties the disks of nodes that are locked out, as their log tells an
// operator to: one that joined got a part of the log from a leader that was deposed
// before it had committed that the node is a peer. It may take two times: what was
// under way to a peer that was removed goes to the node that comes in its place.
func (s *story) admit() {
	for range 3 {
		<-time.After(3 * time.Second) // whoever leads then was elected after all was mended, or never lost a majority
		if !s.admitOnce() {
			return
		}
	}
}

func (s *story) admitOnce() (locked bool) {
	peers, err := s.c.Leader().Node.Peers()
	if err != nil {
		s.t.Fatal(err)
	}
	known := map[string]bool{}
	for _, p := range peers {
		known[p.ID] = true
	}
	for _, m := range s.c.members() {
		if known[m.ID] || m.expect > 0 || !m.disk.used() {
			continue
		}
		s.note("locked out: %s", m.ID)
		s.stats.Add("member: locked out", 1)
		locked = true
		s.c.Kill(m)
		m.disk.wipe()
		s.c.Restart(m)
	}
	return locked
}
