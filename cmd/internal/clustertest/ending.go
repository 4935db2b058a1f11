package clustertest

import "time"

// Kill ends a member at once, as kill -9 does, with its drivers.
func (c *Cluster) Kill(m *Member) { c.kill(m, c.process(m)) }

// KillAgent ends a member at once. Its drivers outlive it, until the leases have ended
// that they were last told of and they are killed for it.
func (c *Cluster) KillAgent(m *Member) { c.crash(m, c.process(m)) }

// PowerOff ends a member with its whole machine: nothing is left of it, not even what
// the kernel held.
func (c *Cluster) PowerOff(m *Member) {
	c.Kill(m)
	for _, d := range c.drivers(m) {
		d.exit()
		d.release()
	}
}

// Hold has the kernel hold the drivers of a member: their calls do not end, and they
// cannot be killed. It reports whether there are any.
func (c *Cluster) Hold(m *Member) bool {
	all := c.drivers(m)
	for _, d := range all {
		d.hold()
	}
	return len(all) > 0
}

// Release ends what Hold did: drivers that were killed meanwhile end.
func (c *Cluster) Release(m *Member) {
	for _, d := range c.drivers(m) {
		d.release()
	}
}

// drivers are the drivers of a member that run, whatever has become of their agent.
func (c *Cluster) drivers(m *Member) (all []*driver) {
	for _, name := range c.opts.Clusters {
		if d := c.Arrays[name].driver(m.HostIn(name)); d != nil {
			all = append(all, d)
		}
	}
	return all
}

// process is the one that runs a member, or has run it last.
func (c *Cluster) process(m *Member) *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return m.process
}

// kill ends a process of a member, unless it has ended, and the drivers.
func (c *Cluster) kill(m *Member, p *process) {
	c.crash(m, p)
	for _, d := range c.drivers(m) {
		if d.agent == p {
			d.kill()
		}
	}
}

func (c *Cluster) crash(m *Member, p *process) {
	c.mu.Lock()
	runs, stop := m.up && m.process == p, m.stop
	if runs {
		m.up = false
	}
	c.mu.Unlock()
	if !runs {
		return
	}
	p.kill()
	m.disk.crash()
	c.ending.Go(stop)
}

// stopTimeout is how long an operator lets a member say goodbye before it is killed:
// one waits for a driver that the kernel holds.
const stopTimeout = 10 * time.Second

// Stop ends a member as an operator does, who lets it say goodbye.
func (c *Cluster) Stop(m *Member) {
	p, stop, stopped := c.process(m), m.stop, make(chan struct{})
	c.ending.Go(func() {
		stop()
		close(stopped)
	})
	select {
	case <-stopped:
	case <-time.After(stopTimeout):
		c.Kill(m)
		return
	}
	p.kill()
	c.mu.Lock()
	defer c.mu.Unlock()
	m.up = false
}
